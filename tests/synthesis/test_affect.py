# SPDX-License-Identifier: Apache-2.0
"""The rules from measured features to labels."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from hf_mathrock.synthesis import affect
from hf_mathrock.synthesis.affect import Features, intensity_class, intensity_score, nearest_emotions, tempo_class
from hf_mathrock.synthesis.composer import compose

MIDDLE = Features(
    mode=0.0,
    tempo=0.0,
    staccato=0.0,
    dissonance=0.0,
    register=0.0,
    density=0.0,
    steadiness=0.0,
    drive=0.0,
    intensity=0.5,
)


@pytest.mark.parametrize(
    ("bpm", "expected"), [(94.9, "slow"), (95.0, "moderate"), (140.0, "moderate"), (140.1, "fast")]
)
def test_tempo_classes_meet_at_95_and_140(bpm: float, expected: str) -> None:
    assert tempo_class(bpm) == expected
    assert compose(0, bpm=bpm).labels.tempo == expected


def test_intensity_classes_split_the_score_in_thirds() -> None:
    assert [intensity_class(score) for score in (0.0, 0.33, 0.34, 0.66, 0.67, 1.0)] == [
        "low", "low", "medium", "medium", "high", "high",
    ]  # fmt: skip


def test_intensity_score_rises_with_each_cue_and_stays_in_the_unit_range() -> None:
    quiet = {"drive": 0.0, "drums_per_beat": 1.0, "strokes_per_beat": 1.0, "velocity": 0.25}
    loud = {"drive": 1.0, "drums_per_beat": 6.0, "strokes_per_beat": 12.0, "velocity": 1.0}
    for cue, value in loud.items():
        assert intensity_score(**{**quiet, cue: value}) > intensity_score(**quiet)
    assert intensity_score(**loud) == pytest.approx(1.0)
    assert intensity_score(0.0, 0.0, 0.0, 0.0) == 0.0


def test_mode_is_the_strongest_cue_of_valence() -> None:
    change = {
        cue: abs(replace(MIDDLE, **{cue: 0.5}).valence - MIDDLE.valence)
        for cue in ("mode", "tempo", "register", "dissonance", "drive", "density", "staccato")
    }
    assert max(change, key=lambda cue: change[cue]) == "mode"


@pytest.mark.parametrize(
    ("axis", "raises", "lowers"),
    [
        ("valence", ("mode", "tempo", "register"), ("dissonance", "drive")),
        ("arousal", ("tempo", "density", "staccato"), ()),
        ("control", ("steadiness",), ("register",)),
    ],
)
def test_cues_point_the_way_the_literature_says(axis: str, raises: tuple[str, ...], lowers: tuple[str, ...]) -> None:
    for cue in raises:
        assert getattr(replace(MIDDLE, **{cue: 0.5}), axis) > getattr(MIDDLE, axis)
    for cue in lowers:
        assert getattr(replace(MIDDLE, **{cue: 0.5}), axis) < getattr(MIDDLE, axis)


def test_louder_is_more_aroused() -> None:
    assert replace(MIDDLE, intensity=0.9).arousal > MIDDLE.arousal > replace(MIDDLE, intensity=0.1).arousal


def test_word_points_keep_the_published_order() -> None:
    published = np.array(affect.PUBLISHED_VALUES)
    assert published.shape == (len(affect.EMOTIONS), 3) == affect.WORD_POINTS.shape
    for axis in (0, 1):
        order = np.argsort(published[:, axis], kind="stable")
        assert (np.diff(affect.WORD_POINTS[order, axis]) >= 0).all()
        assert np.abs(affect.WORD_POINTS[:, axis]).max() <= 1
    words = dict(zip(affect.EMOTIONS, affect.WORD_POINTS[:, 0], strict=True))
    # Tied in the lexicon, tied here.
    assert words["anger"] == words["annoyance"]
    assert abs(words["neutral"]) < 0.15


def test_a_word_is_nearest_to_its_own_point() -> None:
    for word, point in zip(affect.EMOTIONS, affect.WORD_POINTS, strict=True):
        assert nearest_emotions(*point)[0] == word


def test_between_one_and_four_words_are_chosen_everywhere_in_the_cube() -> None:
    axis = np.linspace(-1, 1, 9)
    counts = {len(nearest_emotions(v, a, c)) for v in axis for a in axis for c in axis}
    assert counts <= {1, 2, 3, 4}
    assert {1, 4} <= counts


def test_opposite_corners_carry_opposite_words() -> None:
    assert "joy" in nearest_emotions(0.95, 0.7, 0.2)
    assert "sadness" in nearest_emotions(-0.95, -0.85, -0.5)
    assert "anger" in nearest_emotions(-0.3, 0.85, 0.9)
    assert "nervousness" in nearest_emotions(-0.4, 0.95, -0.8)


def test_no_word_is_rare_or_common_among_composed_pieces() -> None:
    pieces = [compose(seed).labels.emotions for seed in range(800)]
    share = {word: sum(word in words for words in pieces) / len(pieces) for word in affect.EMOTIONS}
    assert min(share.values()) > 0.015, min(share, key=lambda word: share[word])
    assert max(share.values()) < 0.25, max(share, key=lambda word: share[word])


def test_the_composer_writes_the_labels_that_the_model_has() -> None:
    # Two homes, since composing must not wait for transformers to be imported.
    from hf_mathrock.models import configuration_mathrock as model

    composed = (affect.EMOTIONS, affect.VIBES, affect.INTENSITIES, affect.TEMPOS)
    assert [list(labels) for labels in composed] == [model.EMOTIONS, model.VIBES, model.INTENSITIES, model.TEMPI]
