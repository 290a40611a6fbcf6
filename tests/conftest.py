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
    return {
        "wavlm_config": {
            "hidden_size": 16,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "intermediate_size": 24,
            "conv_dim": [8] * 7,
            "num_conv_pos_embeddings": 8,
            "num_conv_pos_embedding_groups": 2,
        },
        "clap_audio_config": {
            "patch_embeds_hidden_size": 8,
            "hidden_size": 16,
            "depths": [1, 1],
            "num_attention_heads": [1, 2],
            "num_hidden_layers": 2,
            "projection_dim": 8,
        },
        "projection_size": 12,
        "hidden_size": 16,
    }


@pytest.fixture(scope="session")
def tiny_model(tiny_settings):
    """A tiny MathRock with random weights, in evaluation mode; tests must not change it."""
    import torch

    torch.manual_seed(0)
    return hf_mathrock.MathRockForAudioClassification(hf_mathrock.MathRockConfig(**tiny_settings)).eval()
