# SPDX-License-Identifier: Apache-2.0
"""The spectral front ends of the taggers, held against torchaudio and the log-mels published with musicnn."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from hf_mathrock.models.configuration_features import feature_shape, fill_feature
from hf_mathrock.models.tagger_features import TaggerFeatures, harmonic_centres_hz, mel_spectrogram

GOLDEN = Path(__file__).parents[2].parent / "shared" / "reference" / "musicnn" / "golden.npz"
MUSICNN = {"kind": "mel", "num_mel_bins": 96, "mel_scale": "slaney", "mel_norm": "slaney", "compression": "log10"}


def features(feature: dict[str, Any], sampling_rate: int = 16_000) -> TaggerFeatures:
    return TaggerFeatures(SimpleNamespace(feature=feature, sampling_rate=sampling_rate))  # type: ignore[arg-type]


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) * 0.1


@pytest.fixture(scope="module")
def golden() -> Any:
    if not GOLDEN.exists():
        pytest.skip(f"{GOLDEN} is not here: the reference activations lie beside the repository, not in it.")
    return np.load(GOLDEN)


def test_log_mels_of_musicnn_equal_the_published_ones(golden: Any) -> None:
    mel = mel_spectrogram(torch.from_numpy(golden["waveform"])[None], MUSICNN, 16_000)
    assert mel.shape == (1, 96, 563)
    np.testing.assert_allclose(mel[0].T.numpy(), golden["logmel"], atol=5e-4)


@pytest.mark.filterwarnings("ignore:At least one mel filterbank")
@pytest.mark.parametrize("pad_mode", ["reflect", "constant"])
@pytest.mark.parametrize("num_mel_bins", [96, 128])
@pytest.mark.parametrize(("mel_scale", "mel_norm"), [("htk", None), ("slaney", "slaney"), ("slaney", None)])
def test_decibels_equal_torchaudio(mel_scale: str, mel_norm: str | None, num_mel_bins: int, pad_mode: str) -> None:
    torchaudio = pytest.importorskip("torchaudio")
    waveform = noise(2, 30_000)
    window, fft = torch.hann_window(512), torchaudio.functional.spectrogram
    power = fft(waveform, 0, window, 512, 256, 512, 2.0, False, center=True, pad_mode=pad_mode)
    filters = torchaudio.functional.melscale_fbanks(257, 0.0, 8000.0, num_mel_bins, 16_000, mel_norm, mel_scale)
    expected = 10 * torch.log10((power.transpose(1, 2) @ filters).clamp(min=1e-10)).transpose(1, 2)
    feature = {"kind": "mel", "num_mel_bins": num_mel_bins, "mel_scale": mel_scale, "mel_norm": mel_norm}
    ours = mel_spectrogram(waveform, {**feature, "pad_mode": pad_mode}, 16_000)
    # Its filters are computed in single precision, which tells in the narrow ones.
    torch.testing.assert_close(ours, expected, atol=1e-2, rtol=0)


def test_of_128_bands_at_16_khz_the_lowest_is_silent_and_of_96_none() -> None:
    waveform = noise(1, 16_000)
    assert mel_spectrogram(waveform, {"kind": "mel", "num_mel_bins": 128}, 16_000)[0, 0].eq(-100).all()
    assert mel_spectrogram(waveform, {"kind": "mel", "num_mel_bins": 96}, 16_000).gt(-100).all()


def test_the_three_compressions_are_of_the_same_power() -> None:
    waveform = noise(1, 8000)
    base = {"kind": "mel", "num_mel_bins": 40, "scale": 100.0}
    decibels, log10, ln = (
        mel_spectrogram(waveform, {**base, "compression": name}, 16_000) for name in ("db", "log10", "ln")
    )
    power = 10 ** (decibels / 10)
    torch.testing.assert_close(log10, torch.log10(1 + 100 * power), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(ln, torch.log(1 + 100 * power), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("num_samples", [257, 511, 512, 513, 59_049])
@pytest.mark.parametrize("kind", ["raw", "mel", "harmonic"])
def test_sizes_are_what_the_formula_says(kind: str, num_samples: int) -> None:
    front_end = features({"kind": kind})
    computed = front_end(noise(2, num_samples))
    assert computed.shape == (2, *feature_shape(front_end.feature, 16_000, num_samples))
    if kind != "raw":
        assert computed.shape[-1] == 1 + num_samples // 256


def test_with_the_sound_before_it_a_piece_equals_its_place_in_the_whole() -> None:
    waveform, first, length = noise(1, 20_000), 20 * 256, 10 * 256
    whole = mel_spectrogram(waveform, MUSICNN, 16_000)
    piece = mel_spectrogram(waveform[:, first - 256 : first + length + 256], MUSICNN, 16_000, False, False)
    torch.testing.assert_close(piece, whole[..., 20:31], atol=1e-6, rtol=0)


def test_frames_at_the_edges_are_made_where_there_is_no_context() -> None:
    waveform = noise(1, 20_000)
    whole = mel_spectrogram(waveform, MUSICNN, 16_000)
    left = mel_spectrogram(waveform[:, 5 * 256 - 256 :], MUSICNN, 16_000, pad_left=False)
    assert left.shape[-1] == 1 + (20_000 - 5 * 256) // 256
    torch.testing.assert_close(left, whole[..., 5:], atol=1e-6, rtol=0)


def test_a_clip_alone_equals_the_clip_in_a_batch_bit_by_bit() -> None:
    waveform = noise(3, 10_000)
    for kind in ("mel", "harmonic"):
        front_end = features({"kind": kind})
        assert torch.equal(front_end(waveform)[1:2], front_end(waveform[1:2]))


def test_half_precision_reaches_the_features_in_single() -> None:
    waveform = noise(1, 10_000).bfloat16()
    front_end = features({"kind": "mel"})
    assert front_end(waveform).dtype == torch.float32
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(front_end(waveform), features({"kind": "mel"})(waveform.float()))


def test_harmonic_bands_are_two_to_the_semitone_from_c1_to_e6() -> None:
    centres = harmonic_centres_hz(fill_feature({"kind": "harmonic"}), 16_000)
    assert centres.shape == (6, 128)
    np.testing.assert_allclose(centres[0, [0, 1, 12, 24, -1]], [32.70, 33.66, 46.25, 65.41, 1280.97], atol=0.005)
    np.testing.assert_allclose(centres[5], 6 * centres[0])
    assert centres.max() == pytest.approx(7685.8, abs=0.1)


def test_harmonic_filters_are_the_triangles_of_the_paper() -> None:
    front_end = features({"kind": "harmonic", "initial_q": 1.7})
    bins = np.linspace(0, 8000, 257)[:, None]
    centres = harmonic_centres_hz(front_end.feature, 16_000).reshape(-1)
    width = (0.1079 * centres + 24.7) / 1.7
    expected = np.maximum(0, np.minimum(1 + 2 * (bins - centres) / width, 1 - 2 * (bins - centres) / width))
    np.testing.assert_allclose(front_end.harmonic_filters().detach().numpy(), expected, atol=1e-5)


def test_of_the_harmonic_filters_one_is_empty_at_the_start() -> None:
    front_end = features({"kind": "harmonic"})
    filters = front_end.harmonic_filters()
    assert filters.sum(dim=0).eq(0).nonzero().flatten().tolist() == [12]
    assert front_end(noise(1, 4000))[0, 0, 12].eq(-100).all()


def test_the_quality_of_harmonic_filters_is_learnt_although_one_is_empty() -> None:
    # Not in decibels, whose slope is endless where a bin enters an empty band: a difference quotient would not do.
    front_end = features({"kind": "harmonic", "compression": "log10", "scale": 1.0})
    assert front_end.q is not None
    front_end(noise(2, 8000)).double().mean().backward()
    with torch.no_grad():
        means = []
        for quality in (0.99, 1.01):
            front_end.q.fill_(quality)
            means.append(float(front_end(noise(2, 8000)).double().mean()))
    assert float(front_end.q.grad) == pytest.approx((means[1] - means[0]) / 0.02, rel=0.02)
    assert front_end.q.grad.abs() > 1e-3


def test_in_decibels_the_quality_has_a_finite_gradient() -> None:
    front_end = features({"kind": "harmonic"})
    front_end(noise(2, 8000)).mean().backward()
    assert front_end.q is not None and torch.isfinite(front_end.q.grad) and front_end.q.grad != 0


def test_a_fixed_quality_is_no_parameter() -> None:
    front_end = features({"kind": "harmonic", "learn_q": False, "initial_q": 2.0})
    assert not list(front_end.parameters())
    learnt = features({"kind": "harmonic", "initial_q": 2.0})
    assert torch.equal(front_end(noise(1, 4000)), learnt(noise(1, 4000)))


def test_no_filter_is_in_a_state_dict() -> None:
    assert list(features({"kind": "mel"}).state_dict()) == []
    assert list(features({"kind": "harmonic"}).state_dict()) == ["q"]


def test_filters_first_made_in_inference_mode_serve_training() -> None:
    front_end = features({"kind": "harmonic", "n_fft": 510, "hop_length": 200})
    with torch.inference_mode():
        front_end(noise(1, 4000))
    front_end(noise(1, 4000)).mean().backward()
    waveform, feature = noise(1, 4000).requires_grad_(), {"kind": "mel", "n_fft": 510, "num_mel_bins": 33}
    with torch.inference_mode():
        mel_spectrogram(noise(1, 4000), feature, 16_000)
    mel_spectrogram(waveform, feature, 16_000).mean().backward()
    assert waveform.grad is not None and waveform.grad.abs().sum() > 0


def test_filters_first_made_under_the_meta_device_have_values() -> None:
    with torch.device("meta"):
        mel_spectrogram(noise_on_cpu := torch.zeros(1, 4000, device="cpu"), {"kind": "mel", "n_fft": 508}, 16_000)
    assert mel_spectrogram(noise_on_cpu, {"kind": "mel", "n_fft": 508}, 16_000).eq(-100).all()


@pytest.mark.parametrize(
    ("feature", "message"),
    [
        ({}, "lacks 'kind'"),
        ({"kind": "mels"}, "did you mean 'mel'"),
        ({"kind": "mel", "num_mel_bands": 96}, "did you mean 'num_mel_bins'"),
        ({"kind": "raw", "n_fft": 512}, "n_fft"),
        ({"kind": "mel", "n_fft": 511}, "even"),
        ({"kind": "mel", "hop_length": 0}, "hop_length"),
        ({"kind": "mel", "hop_length": 2.5}, "hop_length"),
        ({"kind": "mel", "compression": "log"}, "'ln'"),
        ({"kind": "mel", "min_frequency_hz": 9000.0}, "min_frequency_hz"),
        ({"kind": "harmonic", "initial_q": -1.0}, "initial_q"),
        ({"kind": "harmonic", "min_frequency_hz": 0.0}, "min_frequency_hz"),
    ],
)
def test_a_wrong_description_is_refused_by_name(feature: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        fill_feature(feature)


def test_a_filled_description_is_complete_and_stays_as_it_is() -> None:
    filled = fill_feature({"kind": "mel", "num_mel_bins": 40})
    assert fill_feature(filled) == filled
    assert set(filled) == {
        "kind", "n_fft", "win_length", "hop_length", "num_mel_bins", "min_frequency_hz", "max_frequency_hz",
        "mel_scale", "mel_norm", "pad_mode", "compression", "scale",
    }  # fmt: skip


def test_what_cannot_be_computed_is_refused() -> None:
    with pytest.raises(ValueError, match="256 samples.*at least 257"):
        mel_spectrogram(noise(1, 256), {"kind": "mel"}, 16_000)
    with pytest.raises(ValueError, match="8000.0 Hz; audio at 8000 Hz"):
        mel_spectrogram(noise(1, 4000), {"kind": "mel"}, 8000)
    with pytest.raises(ValueError, match="mono"):
        mel_spectrogram(noise(1, 1, 4000), {"kind": "mel"}, 16_000)
    with pytest.raises(ValueError, match="No band fits"):
        features({"kind": "harmonic", "min_frequency_hz": 2000.0})
