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


def test_an_unknown_format_is_a_usage_error(command, converter):
    code, _, err = command("convert", "mathrok", "model.pth", "out")
    assert code == 2 and "'mathrock'" in err and converter == []
