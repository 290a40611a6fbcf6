# SPDX-License-Identifier: Apache-2.0
"""Fixtures that several test folders share."""

import os
import tempfile
from pathlib import Path

# Before anything imports transformers or datasets: no test may reach for a hub.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_DATASETS_OFFLINE", "1")
# librosa keeps compiled code beside itself; two test processes that write it at once on a fresh install have crashed.
_COMPILED = tempfile.TemporaryDirectory(prefix="numba-")
os.environ["NUMBA_CACHE_DIR"] = _COMPILED.name

import pytest  # noqa: E402

import hf_mathrock  # noqa: E402, F401  (registers the families)
from tiny import SETTINGS  # noqa: E402

ROOT = Path(__file__).parents[1]
SHARED = ROOT.parent / "shared"


@pytest.fixture(scope="session")
def mathrock_reference() -> Path:
    """Golden activations of the reference wiring; they are not part of this repository."""
    folder = SHARED / "reference" / "mathrock"
    if not folder.is_dir():
        pytest.skip("the reference folder ../shared/reference/mathrock is not here")
    return folder


@pytest.fixture(scope="session")
def real_audio() -> Path:
    """Real recordings; they are not part of this repository."""
    folder = SHARED / "audio"
    if not folder.is_dir():
        pytest.skip("the recordings of ../shared/audio are not here")
    return folder


@pytest.fixture(scope="session")
def tiny_settings() -> dict:
    """Fields of `MathRockConfig` for a model of some thirty thousand parameters."""
    return SETTINGS


@pytest.fixture(scope="session")
def tiny_model(tiny_settings):
    """A tiny MathRock with random weights, in evaluation mode; tests must not change it."""
    import torch

    torch.manual_seed(0)
    return hf_mathrock.MathRockForAudioClassification(hf_mathrock.MathRockConfig(**tiny_settings)).eval()
