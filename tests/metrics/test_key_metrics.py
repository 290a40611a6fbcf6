# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import doctest

import numpy as np
import pytest

from hf_mathrock.metrics import key

NAMES = ("C", "Db", "D", "Eb", "E", "F", "Gb", "G", "Ab", "A", "Bb", "B")
KEYS = [f"{tonic} {mode}" for mode in ("major", "minor") for tonic in NAMES]


def test_the_examples_of_the_docstrings_run():
    assert doctest.testmod(key).failed == 0


def test_all_576_pairs_score_as_in_mir_eval():
    mir_eval = pytest.importorskip("mir_eval")
    for number, reference in enumerate(KEYS):
        for other, estimated in enumerate(KEYS):
            expected = mir_eval.key.weighted_score(reference, estimated)
            assert key.score_table()[number, other] == expected, (reference, estimated)
            assert key.weighted_score([reference], [estimated]) == expected


@pytest.mark.parametrize(
    ("reference", "estimated", "score", "mirex"),
    [
        ("C major", "C major", 1.0, 1.0),
        ("C major", "G major", 0.5, 0.5),
        ("C major", "F major", 0.0, 0.5),
        ("A minor", "E minor", 0.5, 0.5),
        ("A minor", "D minor", 0.0, 0.5),
        ("C major", "A minor", 0.3, 0.3),
        ("A minor", "C major", 0.3, 0.3),
        ("C major", "C minor", 0.2, 0.2),
        ("C minor", "C major", 0.2, 0.2),
        ("C major", "E minor", 0.0, 0.0),  # nor is a fifth of the other mode
        ("C major", "G minor", 0.0, 0.0),
        ("C major", "F# major", 0.0, 0.0),
    ],
)
def test_related_keys_score_by_their_relation(reference, estimated, score, mirex):
    assert key.weighted_score([reference], [estimated]) == score
    assert key.mirex_score([reference], [estimated]) == mirex


def test_the_scores_differ_in_falling_fifths_only():
    differing = key.score_table(descending_fifths=True) - key.score_table()
    assert sorted(set(differing.ravel())) == [0.0, 0.5]
    assert (differing > 0).sum() == 24


@pytest.mark.parametrize(
    ("one", "other"), [("C# minor", "Db minor"), ("B major", "Cb major"), ("E# major", "F major"), ("f# minor", 18)]
)
def test_names_of_one_sound_are_one_key(one, other):
    assert key.evaluate([one], [other]) == {"weighted_score": 1.0, "mirex_score": 1.0, "accuracy": 1.0}


def test_unknown_keys_do_not_count():
    assert key.evaluate([0, -100, 7], [0, 5, 0]) == {"weighted_score": 0.5, "mirex_score": 0.75, "accuracy": 0.5}
    assert key.evaluate([-100], [0]) == {}
    assert np.isnan(key.weighted_score([-100], [0]))


@pytest.mark.parametrize(
    ("reference", "estimated", "message"),
    [
        ([24], [0], "row 0 has the reference 24"),
        ([0, 3], [0, -100], "row 1 has the estimate -100"),
        ([0.5], [0], "row 0 has the reference -1"),
        (["C dorian"], [0], "'C dorian' is no key.*leave them out"),
        ([0, 1], [0], "2 references and 1 estimates"),
        ([[0]], [[0]], r"the references have the shape \(1, 1\)"),
    ],
)
def test_what_is_no_key_is_refused_by_row(reference, estimated, message):
    with pytest.raises(ValueError, match=message):
        key.evaluate(reference, estimated)
