# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture
def corpus(monkeypatch):
    """Stands in for the synthesis, which has tests of its own; the fixture's value is what it was called with."""
    calls = []

    def write_corpus(out, num, *, progress, **options):
        progress(num, num)
        calls.append((out, num, options))

    module = ModuleType("hf_mathrock.synthesis.corpus")
    module.write_corpus = write_corpus
    monkeypatch.setitem(sys.modules, module.__name__, module)
    return calls


def test_the_corpus_is_made_as_asked_for(command, corpus):
    options = ["--seed", "7", "--seconds", "5", "--sampling-rate", "16000", "--format", "wav", "--num-workers", "1"]
    code, out, err = command("synthesize", "--num", "2", "--out", "c", *options)
    assert (code, out, err) == (0, "", "wrote 2 pieces into c\n")
    expected = {"seed": 7, "seconds": 5.0, "sampling_rate": 16000, "audio_format": "wav", "num_workers": 1}
    assert corpus == [(Path("c"), 2, expected)]


def test_the_defaults_are_those_of_the_documentation(command, corpus):
    command("synthesize", "--out", "c")
    defaults = {"seed": 0, "seconds": 30.0, "sampling_rate": 44100, "audio_format": "flac", "num_workers": None}
    assert corpus == [(Path("c"), 500, defaults)]


@pytest.mark.parametrize("option", [["--num", "0"], ["--seconds", "inf"], ["--format", "aac"]])
def test_a_wrong_option_makes_nothing(command, corpus, option):
    code, _, _ = command("synthesize", "--out", "c", *option)
    assert code == 2 and corpus == []
