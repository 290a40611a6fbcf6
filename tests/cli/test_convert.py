# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest


@pytest.fixture
def converter(monkeypatch):
    """Stands in for the conversion, which has tests of its own; the fixture's value is what it was called with."""
    calls = []

    def convert_checkpoint(source, out, **configs):
        calls.append((source, out, configs))
        return SimpleNamespace(
            source=source.name, out=str(out), num_tensors=147, num_parameters=839254, notes=["a note"]
        )

    module = ModuleType("hf_mathrock.conversion.mathrock")
    module.convert_checkpoint = convert_checkpoint
    monkeypatch.setitem(sys.modules, module.__name__, module)
    return calls


def test_a_conversion_says_what_was_converted(command, converter):
    code, out, _ = command("convert", "mathrock", "a/model.pth", "out", "--wavlm-config", "w.json")
    assert code == 0
    assert out.splitlines() == ["model.pth: 147 tensors, 839,254 parameters -> out", "  a note"]
    configs = {"wavlm_config": Path("w.json"), "clap_config": None}
    assert converter == [(Path("a/model.pth"), Path("out"), configs)]


def test_what_a_conversion_lacks_is_not_said_to_be_missing_for_training(command, monkeypatch, tmp_path):
    def convert_musicnn(source, out, tags):
        raise ImportError('Reading it needs h5py: pip install "hf-mathrock[convert]", or h5py alone.')

    module = ModuleType("hf_mathrock.conversion.musicnn")
    module.convert_musicnn = convert_musicnn
    monkeypatch.setitem(sys.modules, module.__name__, module)
    code, _, err = command("convert", "musicnn", "a.h5", "out", "--tags", "MTT")
    assert code == 1 and "hf-mathrock[convert]" in err and "train" not in err


def test_an_option_of_another_format_is_a_usage_error(command, converter):
    code, _, err = command("convert", "mathrock", "model.pth", "out", "--tags", "MTT")
    assert code == 2 and "--tags is for musicnn, not for mathrock" in err and converter == []


def test_an_unknown_format_is_a_usage_error(command, converter):
    code, _, err = command("convert", "mathrok", "model.pth", "out")
    assert code == 2 and "'mathrock'" in err and converter == []
