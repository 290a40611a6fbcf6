# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from hf_mathrock.models.feature_extraction_music_tagging import MusicTaggingFeatureExtractor

RATE = 8000
TASKS = [
    {"name": "tag", "type": "multi_label", "labels": ["third second", "low notes", "anything"]},
    {"name": "tempo", "type": "single_label", "labels": ["slow", "fast"]},
    {"name": "pace", "type": "single_label", "labels": ["slow", "brisk"]},
]


class KnownListener(nn.Module):
    """A model whose reasons are known: it hears the power of the third second, and that below 400 Hz."""

    device, dtype = torch.device("cpu"), torch.float32

    def __init__(self):
        super().__init__()
        names = [task["name"] for task in TASKS]
        self.config = SimpleNamespace(
            tasks=TASKS,
            model_type="known_listener",
            task=lambda name: TASKS[names.index(name)],
            task_temperature=lambda name: 1.0,
        )
        self.batch_sizes = []

    def forward(self, input_values, attention_mask):
        self.batch_sizes.append(len(input_values))
        seconds = input_values[:, : 4 * RATE].unflatten(1, (4, RATE)).square().mean(dim=2)
        spectrum = torch.fft.rfft(input_values).abs().square() / input_values.shape[1] ** 2
        low = spectrum[:, : int(400 * input_values.shape[1] / RATE)].sum(dim=1)
        tag = torch.stack([200 * seconds[:, 2] - 2, 400 * low - 2, torch.full_like(low, -1.0)], dim=1)
        return SimpleNamespace(task_logits={"tag": tag, "tempo": tag[:, :2], "pace": tag[:, 1:]})


@pytest.fixture
def known_pipe():
    """A pipeline, as far as an explanation needs one, of a model whose reasons are known; its windows last 4 s."""
    return SimpleNamespace(
        model=KnownListener(),
        feature_extractor=MusicTaggingFeatureExtractor(sampling_rate=RATE, window_samples=4 * RATE),
        model_card={"name": "known", "fingerprint": "0"},
    )


@pytest.fixture
def make_sound():
    """Makes noise of so many seconds and a tone of 300 Hz beneath it, in the form that `open_audio` takes."""

    def make(seconds=4.0, quiet=()):
        rng = np.random.default_rng(0)
        time = np.arange(round(seconds * RATE)) / RATE
        samples = 0.1 * rng.standard_normal(len(time)) + 0.1 * np.sin(2 * np.pi * 300 * time)
        for start, end in quiet:
            samples[(time >= start) & (time < end)] = 0
        return {"array": samples.astype(np.float32), "sampling_rate": RATE}

    return make
