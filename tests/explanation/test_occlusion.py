# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import numpy as np
import pytest

from hf_mathrock.explanation.listening import Listener
from hf_mathrock.explanation.occlusion import occlude_bands, occlude_stretches, stretches
from hf_mathrock.explanation.replacement import BASELINES, Occluder, mel_bands
from hf_mathrock.models.audio_input import AudioWindow

RATES = (8000, 24_000)


@pytest.fixture
def window():
    """Two seconds, from the tenth of a recording, of the same noise at two rates."""
    noise = 0.1 * np.random.default_rng(1).standard_normal(2 * RATES[1])
    lower = np.fft.irfft(np.fft.rfft(noise)[: RATES[0] + 1]) / 3
    audio = {RATES[0]: lower.astype(np.float32), RATES[1]: noise.astype(np.float32)}
    return AudioWindow(3, 10.0, 12.0, audio, before={8000: np.ones(5, dtype=np.float32)})


def energy(windows):
    """A listener with one label: the power in the second half of a window."""
    return np.array([[np.square(w.audio[8000][8000:]).sum()] for w in windows], dtype=np.float64)


def test_stretches_slide_over_the_span_and_the_last_one_ends_with_it():
    np.testing.assert_allclose(stretches(1.0, 3.0, 0.5, 0.5), [[1, 1.5], [1.5, 2], [2, 2.5], [2.5, 3]])
    np.testing.assert_allclose(stretches(0.0, 1.05, 0.5, 0.5)[-1], [0.55, 1.05])
    assert len(stretches(0.0, 3.0, 0.3, 0.1)) == 28


@pytest.mark.parametrize(
    ("width", "step", "message"),
    [(0, 0.1, "above 0"), (1, 1.1, "never be taken away"), (1, 0, "above 0"), (1.6, 1, "at most 1.50 s")],
)
def test_a_width_or_step_out_of_range_is_refused(width, step, message):
    with pytest.raises(ValueError, match=message):
        stretches(0.0, 3.0, width, step)


@pytest.mark.parametrize("baseline", BASELINES)
def test_nothing_outside_an_occluded_stretch_changes_and_everything_inside_it_does(window, baseline):
    changed = Occluder(window, baseline).without_stretch(10.5, 11.0)
    for rate in RATES:
        inside = slice(rate // 2, rate)
        same = changed.audio[rate] == window.audio[rate]
        assert same[: rate // 2].all() and same[rate:].all() and same[inside].mean() < 0.02
        assert changed.audio[rate].dtype == np.float32
    assert (changed.start, changed.end) == (10.0, 12.0) and changed.before is window.before
    assert Occluder(window, baseline).without_stretch(13.0, 14.0).audio[8000].tolist() == window.audio[8000].tolist()


def test_silence_is_silent_and_noise_as_loud_as_the_window(window):
    for rate in RATES:
        middle = slice(round(0.6 * rate), round(1.4 * rate))
        changed = {
            baseline: Occluder(window, baseline).without_stretch(10.5, 11.5).audio[rate] for baseline in BASELINES
        }
        level = np.std(window.audio[rate])
        assert not changed["silence"][middle].any()
        assert np.std(changed["noise"][middle]) == pytest.approx(level, rel=0.05)
        assert np.std(changed["surroundings"][middle]) == pytest.approx(level, rel=0.05)


def test_noise_is_the_same_sound_at_every_rate(window):
    changed = Occluder(window, "noise").without_stretch(10.0, 12.0).audio
    spectra = [np.fft.rfft(changed[rate])[10:7990] / rate for rate in RATES]
    np.testing.assert_allclose(spectra[0], spectra[1], atol=1e-6)
    assert np.abs(spectra[0]).min() > 1e-4


def test_a_band_is_taken_out_and_the_others_stay():
    time = np.arange(8000) / 8000
    tones = {hertz: np.sin(2 * np.pi * hertz * time) for hertz in (200, 1000, 3000)}
    window = AudioWindow(0, 0.0, 1.0, {8000: sum(tones.values()).astype(np.float32)})
    left = Occluder(window, "silence").without_band(600, 2000).audio[8000]
    amplitudes = {hertz: abs(2 * np.mean(left * tone)) for hertz, tone in tones.items()}
    assert amplitudes[1000] < 0.01 and amplitudes[200] == pytest.approx(1, abs=0.01)
    assert amplitudes[3000] == pytest.approx(1, abs=0.01)


def test_the_bands_add_up_to_the_whole(window):
    edges = mel_bands(5, 12_000)
    assert edges[0, 0] == 0 and edges[-1, 1] == pytest.approx(12_000)
    for rate in RATES:
        removed = sum(
            window.audio[rate] - Occluder(window, "silence").without_band(*edge).audio[rate] for edge in edges
        )
        np.testing.assert_allclose(removed, window.audio[rate], atol=1e-5)


def test_the_evidence_is_where_the_listener_hears_something(window):
    times = stretches(10.0, 12.0, 0.25, 0.25)
    values, heard = occlude_stretches(energy, [window], times, "silence")
    total = energy([window])[0, 0]
    np.testing.assert_array_equal(values[0, :4], 0)
    # What lies in the cross-fades is lost in part only.
    assert (values[0, 4:] > 0.1).all() and values.sum() == pytest.approx(total, rel=0.1)
    np.testing.assert_allclose(heard, 1)


def test_a_stretch_means_the_same_in_one_window_and_in_several(window):
    # The second window hears only the later half of the stretch at the border, as the first one the earlier half.
    later = AudioWindow(4, 12.0, 14.0, {8000: np.roll(window.audio[8000], 8000)})
    times = stretches(10.0, 14.0, 0.5, 0.25)
    values, heard = occlude_stretches(energy, [window, later], times, "silence")
    alone, _ = occlude_stretches(energy, [window], times[:7], "silence")
    np.testing.assert_allclose(values[0, :7], alone[0])
    np.testing.assert_allclose(heard, 1)
    twice, heard = occlude_stretches(energy, [window, window], times[:7], "silence")
    np.testing.assert_allclose(twice, alone)
    np.testing.assert_allclose(heard, 2)


def test_occluding_what_is_silent_by_silence_changes_nothing():
    audio = {8000: np.zeros(16_000, dtype=np.float32)}
    audio[8000][:4000] = 0.1
    window = AudioWindow(0, 0.0, 2.0, audio)
    values, _ = occlude_stretches(energy, [window], stretches(0.5, 2.0, 0.25, 0.25), "silence")
    np.testing.assert_array_equal(values, 0)


@pytest.mark.parametrize("baseline", BASELINES)
def test_the_batch_size_changes_nothing(known_pipe, window, baseline):
    known_pipe.feature_extractor.window_samples = 16_000
    window = AudioWindow(0, 0.0, 4.0, {8000: np.tile(window.audio[8000], 2)})
    times = stretches(0.0, 4.0, 0.5, 0.25)
    results = [occlude_stretches(Listener(known_pipe, size), [window], times, baseline)[0] for size in (1, 4, 64)]
    np.testing.assert_allclose(results[0], results[1], atol=1e-6)
    np.testing.assert_allclose(results[0], results[2], atol=1e-6)
    assert max(known_pipe.model.batch_sizes) == 16


def test_the_evidence_of_bands_is_where_the_listener_hears_something(known_pipe, make_sound):
    from hf_mathrock.models.audio_input import open_audio

    with open_audio(make_sound()) as source:
        windows = list(known_pipe.feature_extractor.windows(source))
    edges = mel_bands(6, 4000)
    values = occlude_bands(Listener(known_pipe, 8), windows, edges, "silence")
    low = values[1]
    assert edges[0, 1] < 300 < edges[1, 1] and low.argmax() == 1 and np.abs(low[2:]).max() < 0.1 * low[1]
    np.testing.assert_allclose(values[2], 0, atol=1e-9)
