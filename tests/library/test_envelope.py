# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import numpy as np
import pytest
import soundfile

from hf_mathrock.library.envelope import read_envelope, read_excerpt_envelope
from hf_mathrock.models.audio_input import AudioReadError


def write(path, samples, rate=8000):
    soundfile.write(path, np.asarray(samples, dtype=np.float32), rate, subtype="FLOAT")
    return path


def test_every_stretch_has_its_lowest_and_highest_sample(tmp_path):
    # Second by second a square wave of another height, heavier below than above.
    square = np.concatenate([height * np.tile([1.0, -2.0, 1.0, 0.0], 2000) for height in (0.1, 0.4, 0.2, 0.3)])
    low, high = read_envelope(write(tmp_path / "square.wav", square), num_bins=4)
    np.testing.assert_allclose(high, [0.1, 0.4, 0.2, 0.3], atol=1e-6)
    np.testing.assert_allclose(low, [-0.2, -0.8, -0.4, -0.6], atol=1e-6)


def test_a_click_is_found_where_it_is(tmp_path):
    samples = np.zeros(80_000)
    samples[60_001] = 0.9
    low, high = read_envelope(write(tmp_path / "click.wav", samples), num_bins=100)
    assert len(high) == 100
    assert np.flatnonzero(high > 0.5).tolist() == [75]


def test_a_clip_shorter_than_the_bins_gives_fewer(tmp_path):
    low, high = read_envelope(write(tmp_path / "short.wav", np.full(800, 0.01)), num_bins=1600)
    assert len(low) == len(high) == 20


def test_what_is_no_audio_is_refused(tmp_path):
    (tmp_path / "text.mp3").write_text("not a song")
    with pytest.raises(AudioReadError, match=r"text\.mp3"):
        read_envelope(tmp_path / "text.mp3")


def test_a_part_of_a_file_has_an_outline_of_its_own(tmp_path):
    samples = np.concatenate([np.zeros(8000), np.full(4000, 0.25), np.full(4000, -0.5), np.zeros(8000)])
    low, high = read_excerpt_envelope(write(tmp_path / "steps.wav", samples), 1.0, 2.0, num_bins=4)
    assert high.tolist() == pytest.approx([0.375, 0.375, -0.375, -0.375], abs=1e-3)  # without its mean
    assert low.tolist() == pytest.approx(high.tolist(), abs=1e-6)
