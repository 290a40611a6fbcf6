# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch

from hf_mathrock.evaluation.track_embeddings import embed_clips, embed_tracks, hears_whole_tracks, mel_statistics
from hf_mathrock.models.audio_input import AudioReadError
from tiny_myna import tiny_myna, tiny_myna_extractor
from tiny_taggers import tiny_extractor, tiny_tagger

RATE = 16_000


def noise(seed, seconds):
    rng = np.random.default_rng(seed)
    return (rng.normal(size=round(seconds * RATE)) * rng.uniform(0.02, 0.2)).astype(np.float32)


@dataclass
class Spectrogram:
    """As a track of a mel cache."""

    decibels: np.ndarray
    reference: float


@pytest.fixture(scope="module")
def encoder():
    return tiny_myna(), tiny_myna_extractor()


@pytest.fixture(scope="module")
def waveforms():
    return [noise(0, 7.3), noise(1, 3.0), noise(2, 0.1)]


def heard(extractor, waveform):
    decibels = extractor.decibels(waveform)
    return Spectrogram(decibels.astype(np.float16), extractor.reference_of(decibels))


def test_a_whole_track_is_embedded_as_the_model_does(encoder, waveforms):
    model, extractor = encoder
    found = embed_tracks(model, extractor, waveforms)
    assert found.shape == (3, model.config.embedding_size) and found.dtype == np.float32
    for row, waveform in zip(found, waveforms, strict=True):
        with torch.no_grad():
            expected = model(**extractor(waveform)).pooler_output[0]
        np.testing.assert_allclose(row, expected, atol=1e-5)


def test_chunks_are_pieces_of_the_tracks_own_spectrogram(encoder, waveforms):
    model, extractor = encoder
    (found,) = embed_tracks(model, extractor, waveforms[:1], how="chunks", chunk_seconds=2.0)
    values = extractor.values_of(extractor.decibels(waveforms[0]))
    length = 64  # 2 s are 62.5 frames, and a patch has 16
    pieces = [values[first : first + length] for first in range(0, len(values), length)]
    assert [len(piece) for piece in pieces] == [64, 64, 64, 37]
    with torch.no_grad():
        embeddings = [model(torch.from_numpy(piece)[None]).pooler_output[0] for piece in pieces]
    np.testing.assert_allclose(found, torch.stack(embeddings).mean(0), atol=1e-5)


def test_a_track_as_short_as_a_chunk_is_the_same_both_ways(encoder, waveforms):
    model, extractor = encoder
    ways = [embed_tracks(model, extractor, waveforms[2:], how=how) for how in ("whole", "chunks")]
    np.testing.assert_allclose(*ways, atol=1e-6)
    longer = [embed_tracks(model, extractor, waveforms[:1], how=how) for how in ("whole", "chunks")]
    assert np.abs(longer[0] - longer[1]).max() > 1e-3


def test_spectrograms_tracks_files_and_callables_are_heard_alike(encoder, waveforms, tmp_path):
    import soundfile

    from hf_mathrock.data.tracks import Track

    model, extractor = encoder
    soundfile.write(tmp_path / "song.wav", waveforms[1], RATE, subtype="FLOAT")
    forms = [
        waveforms[1],
        heard(extractor, waveforms[1]),
        tmp_path / "song.wav",
        Track("song", tmp_path / "song.wav"),
        lambda: waveforms[1],
    ]
    found = embed_tracks(model, extractor, forms, how="chunks", chunk_seconds=1.0)
    np.testing.assert_allclose(found, found[:1].repeat(5, 0), atol=2e-3)  # the cache has half precision
    np.testing.assert_array_equal(found[0], found[2])


def test_silent_chunks_have_no_say(encoder):
    model, extractor = encoder
    half_silent = np.concatenate([noise(3, 2.0), np.zeros(4 * RATE, np.float32)])
    (found,) = embed_tracks(model, extractor, [half_silent], how="chunks", chunk_seconds=1.024)
    values = extractor.values_of(extractor.decibels(half_silent))
    pieces = [values[first : first + 32] for first in range(0, len(values), 32)]
    sounding = [piece for piece in pieces if piece.max() > extractor.floor + 1e-3]
    assert (len(pieces), len(sounding)) == (6, 3)
    with torch.no_grad():
        embeddings = [model(torch.from_numpy(piece)[None]).pooler_output[0] for piece in sounding]
    np.testing.assert_allclose(found, torch.stack(embeddings).mean(0), atol=1e-5)
    silence = embed_tracks(model, extractor, [np.zeros(3 * RATE, np.float32)], how="chunks", chunk_seconds=1.0)
    assert np.isfinite(silence).all()


def test_clips_drop_a_short_tail_and_name_their_track(encoder, waveforms):
    model, extractor = encoder
    rows, tracks = embed_clips(model, extractor, waveforms, clip_seconds=2.0)
    assert tracks.tolist() == [0, 0, 0, 1, 2] and len(rows) == 5
    values = extractor.values_of(extractor.decibels(waveforms[0]))
    with torch.no_grad():
        second = model(torch.from_numpy(values[62:124])[None]).pooler_output[0]
    np.testing.assert_allclose(rows[1], second, atol=1e-5)


def test_the_model_is_left_as_it_was_and_patchout_is_off(encoder, waveforms):
    model, extractor = encoder
    expected = embed_tracks(model, extractor, waveforms)
    model.train()
    try:
        np.testing.assert_array_equal(embed_tracks(model, extractor, waveforms), expected)
        assert model.training
    finally:
        model.eval()


def test_a_model_of_windows_gives_the_mean_over_them(waveforms):
    model = tiny_tagger("musicnn")
    extractor = tiny_extractor(model)
    assert not hears_whole_tracks(extractor)
    audio = noise(5, 2.0)[:: RATE // extractor.sampling_rate]
    window = round(extractor.window_seconds * extractor.sampling_rate)
    late = np.concatenate([np.zeros(window, np.float32), audio])  # a window of silence says nothing
    for given, first in ((audio, 0), (late, 1)):
        found = embed_tracks(model.base_model, extractor, [given], how="chunks")
        with torch.no_grad():
            windows = extractor(given, window_seconds=extractor.window_seconds, hop_seconds=extractor.window_seconds)
            windows.pop("windows_per_clip")
            expected = model.base_model(**windows).embeddings[first:].mean(0)
        np.testing.assert_allclose(found[0], expected, atol=1e-5)
    assert np.isfinite(embed_tracks(model.base_model, extractor, [np.zeros(window, np.float32)], how="chunks")).all()
    with pytest.raises(ValueError, match=r"hears windows of the audio \(of 1\.024 s\).*only how='chunks'"):
        embed_tracks(model.base_model, extractor, [audio])
    with pytest.raises(ValueError, match="tracks of a mel cache have none"):
        embed_tracks(model.base_model, extractor, [Spectrogram(np.zeros((9, 16)), 0.0)], how="chunks")


def test_the_statistics_are_those_of_each_band(encoder, waveforms):
    _, extractor = encoder
    track = heard(extractor, waveforms[0])
    (found,) = mel_statistics([track])
    level = np.clip(track.decibels.astype(np.float32) - track.reference, -80, 0)
    bins = level.shape[1]
    np.testing.assert_allclose(found[:bins], level.mean(0), atol=1e-4)
    np.testing.assert_allclose(found[bins : 2 * bins], level.std(0), atol=1e-4)
    np.testing.assert_allclose(found[2 * bins : 3 * bins], np.abs(np.diff(level, axis=0)).mean(0), atol=1e-4)
    np.testing.assert_allclose(mel_statistics(waveforms[:1], extractor)[0], found, atol=0.02)
    # How loud a track is told by no figure.
    np.testing.assert_allclose(mel_statistics([waveforms[0] * 2], extractor)[0], found, atol=0.02)


def test_the_progress_counts_tracks(encoder, waveforms):
    told = []
    embed_tracks(*encoder, waveforms, progress=lambda done, total: told.append((done, total)))
    mel_statistics(waveforms, encoder[1], progress=lambda done, total: told.append((done, total)))
    assert told == [(1, 3), (2, 3), (3, 3)] * 2


def test_what_cannot_be_embedded_is_refused(encoder, waveforms, tmp_path):
    model, extractor = encoder
    for options, message in [({"how": "both"}, "`how` is 'both'"), ({"chunk_seconds": 0}, "`chunk_seconds` is 0")]:
        with pytest.raises(ValueError, match=message):
            embed_tracks(model, extractor, waveforms, **options)
    for call in (lambda: embed_tracks(model, extractor, []), lambda: mel_statistics([])):
        with pytest.raises(ValueError, match="there are no tracks"):
            call()
    with pytest.raises(AudioReadError, match=r"nothing\.wav"):
        embed_tracks(model, extractor, [tmp_path / "nothing.wav"])
    broken = tiny_myna()
    with torch.no_grad():
        next(broken.parameters()).fill_(float("nan"))
    with pytest.raises(RuntimeError, match="the embedding of track 0 is not finite"):
        embed_tracks(broken, extractor, waveforms)
