# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import numpy as np
import pytest
import soundfile
import torch
from scipy.signal import correlate, resample_poly

from hf_mathrock import MathRockFeatureExtractor
from hf_mathrock.data.collator import MathRockCollator
from hf_mathrock.data.content import recording_name

TASKS = [
    {"name": "emotion", "type": "multi_label", "labels": ["anger", "joy", "grief"]},
    {"name": "tempo", "type": "single_label", "labels": ["slow", "moderate", "fast"]},
]


@pytest.fixture(scope="module")
def extractor():
    return MathRockFeatureExtractor(window_seconds=1.0, hop_seconds=0.5)


def noise(seconds):
    """Never the same twice, so that a window tells where it was taken."""
    return np.random.default_rng(0).uniform(-0.5, 0.5, round(seconds * 16_000)).astype(np.float32)


def row(seconds=3.0, **labels):
    return {"audio": {"array": noise(seconds), "sampling_rate": 16_000}, **labels}


def start_of(values):
    """Seconds at which a window of `noise(3)` begins."""
    return correlate(noise(3.0), np.asarray(values), mode="valid").argmax() / 16_000


def test_rows_become_the_extractors_tensors_and_a_tensor_of_labels_per_task(extractor):
    batch = MathRockCollator(extractor, TASKS)([row(emotion=["joy"], tempo="fast"), row(0.5, emotion="anger", tempo=0)])
    assert batch["input_values"].shape == batch["attention_mask"].shape == (2, 16_000)
    assert batch["input_features"].shape == (2, 1, 101, 64)
    assert batch["attention_mask"].sum(dim=1).tolist() == [16_000, 8_000]
    assert batch["labels"]["emotion"].tolist() == [[0, 1, 0], [1, 0, 0]]
    assert batch["labels"]["emotion"].dtype == torch.float32
    assert batch["labels"]["tempo"].tolist() == [2, 0] and batch["labels"]["tempo"].dtype == torch.int64


def test_a_recording_is_called_by_its_song_or_path_and_never_by_its_bytes():
    assert recording_name({"song": "one", "audio": "two.wav"}) == "one"
    assert recording_name({"audio": {"path": "two.wav", "bytes": b"RIFF"}}) == "two.wav"
    assert recording_name({"audio": b"RIFF"}, "row 3") == "row 3"


def test_every_batch_has_every_tasks_labels(extractor):
    labels = MathRockCollator(extractor, TASKS)([row(), row(tempo=None, emotion="")])["labels"]
    assert labels["emotion"].tolist() == [[-100] * 3] * 2
    assert labels["tempo"].tolist() == [-100, -100]


def test_evaluation_hears_the_middle_window_and_always_the_same(extractor):
    collator = MathRockCollator(extractor, TASKS)
    first, second = collator([row(3.0)]), collator([row(3.0)])
    assert torch.equal(first["input_values"], second["input_values"])
    assert start_of(first["input_values"][0]) == pytest.approx(1.0, abs=1e-3)


def test_training_hears_windows_at_random_that_lie_in_the_recording_and_follow_the_seed(extractor):
    def starts(seed):
        torch.manual_seed(seed)
        collator = MathRockCollator(extractor, TASKS, train=True)
        batches = [collator([row(3.0)] * 4) for _ in range(3)]
        assert all(batch["attention_mask"].all() for batch in batches)  # no window runs over the end
        return [start_of(values) for batch in batches for values in batch["input_values"]]

    given = starts(0)
    assert min(given) >= 0 and max(given) <= 2
    assert np.std(given) > 0.2
    assert given == starts(0) != starts(1)


def test_both_streams_hear_the_same_window(extractor):
    collator = MathRockCollator(extractor, TASKS, train=True)
    window = collator._window(row(3.0))
    assert {rate: len(track) for rate, track in window.audio.items()} == {16_000: 16_000, 48_000: 48_000}
    low = resample_poly(window.audio[48_000], 1, 3)
    lag = correlate(low, window.audio[16_000]).argmax() - (16_000 - 1)
    assert abs(lag) <= 1  # both starts are rounded to a sample of their own rate
    assert window.end - window.start == pytest.approx(1.0)


def test_the_audio_column_may_hold_what_datasets_stores(extractor, tmp_path):
    soundfile.write(tmp_path / "noise.wav", noise(3.0), 16_000, subtype="FLOAT")
    stored = {"path": "noise.wav", "bytes": (tmp_path / "noise.wav").read_bytes()}
    collator = MathRockCollator(extractor, TASKS)
    expected = collator([row(3.0)])
    for audio in (str(tmp_path / "noise.wav"), stored, {"path": str(tmp_path / "noise.wav"), "bytes": None}):
        torch.testing.assert_close(collator([{"audio": audio}])["input_values"], expected["input_values"])


def test_inputs_computed_before_are_stacked_as_float32(extractor):
    rows = [
        {
            "input_values": np.full(16_000, value, dtype=np.float16),
            "input_features": np.full((1, 101, 64), value, dtype=np.float16),
            "labels": {"emotion": np.array([0, 1, 0], dtype=np.float32), "tempo": np.array(2)},
        }
        for value in (0.25, 0.5)
    ]
    batch = MathRockCollator(extractor, TASKS)(rows)
    assert set(batch) == {"input_values", "input_features", "labels"}
    assert batch["input_values"].dtype == batch["input_features"].dtype == torch.float32
    assert batch["input_values"][:, 0].tolist() == [0.25, 0.5]
    assert batch["labels"]["tempo"].tolist() == [2, 2]


def test_the_mask_of_inputs_computed_before_stays_whole_numbers(extractor):
    inputs = extractor(noise(0.5), sampling_rate=16_000)
    rows = [{key: value[0] for key, value in inputs.items()} | {"tempo": "slow"}]
    batch = MathRockCollator(extractor, TASKS)(rows)
    assert torch.equal(batch["attention_mask"], inputs["attention_mask"])
    assert batch["labels"]["tempo"].tolist() == [0]


def test_a_wrong_label_is_refused_before_the_batch_is_made(extractor):
    with pytest.raises(ValueError, match="did you mean 'slow'"):
        MathRockCollator(extractor, TASKS)([row(tempo="slwo")])


def test_a_broken_recording_is_left_out_and_listed_up_to_a_limit(extractor, tmp_path):
    (tmp_path / "broken.wav").write_bytes(b"nothing of music")
    broken = {"audio": str(tmp_path / "broken.wav"), "tempo": "fast"}
    collator = MathRockCollator(extractor, TASKS, train=True, max_broken=1, with_files=True)
    with pytest.warns(UserWarning, match="left out: cannot read .*broken.wav"):
        batch = collator([row(tempo="slow") | {"song": "one"}, broken, row(tempo="moderate")])
    assert batch["labels"]["tempo"].tolist() == [0, 1]
    assert batch["files"] == ["one", "(without a name)"]
    alone = collator([broken])  # known already, so nothing more is said; and nothing can be learnt from it
    assert alone["labels"]["tempo"].tolist() == [-100] and len(alone["input_values"]) == 1
    assert list(collator.broken) == [str(tmp_path / "broken.wav")]
    with pytest.raises(ValueError, match="2 recordings cannot be read, more than the 1"):
        collator([{"audio": str(tmp_path / "missing.wav")}])


def test_rows_without_audio_say_what_may_have_taken_it(extractor):
    with pytest.raises(ValueError, match="no `audio` .but labels.*remove_unused_columns=False"):
        MathRockCollator(extractor, TASKS)([{"labels": {"emotion": np.zeros(3, np.float32), "tempo": np.array(0)}}])


def test_outputs_of_backbones_are_inputs_too(extractor):
    rows = [{"wavlm_embeddings": np.ones(4), "clap_audio_embeddings": np.zeros(3), "tempo": "slow"}] * 2
    batch = MathRockCollator(extractor, TASKS)(rows)
    assert batch["wavlm_embeddings"].shape == (2, 4) and batch["clap_audio_embeddings"].dtype == torch.float32


@pytest.mark.parametrize("strength", ["light", "heavy"])
def test_augmentation_changes_both_streams_alike_and_follows_the_seed(strength, extractor):
    def batch(seed, augment=strength):
        torch.manual_seed(seed)
        collator = MathRockCollator(extractor, TASKS, train=True, augment=augment)
        return collator([row(3.0, tempo="slow"), row(0.6, tempo="fast")])

    plain, first = batch(0, "none"), batch(0)
    assert torch.equal(first["input_values"], batch(0)["input_values"])
    assert not torch.allclose(first["input_values"], batch(1)["input_values"])
    assert not torch.allclose(first["input_values"], plain["input_values"])
    assert torch.equal(first["attention_mask"], plain["attention_mask"])
    assert torch.equal(first["labels"]["tempo"], plain["labels"]["tempo"])
    assert first["input_values"][1, 9_600:].abs().max() == 0  # what was padding stays so
    # The same change at both rates: the level of the waveform follows that of the spectrogram.
    loud = [10 * torch.log10(b["input_values"][0].square().mean()).item() for b in (plain, first)]
    mel = [10 * torch.log10((10 ** (b["input_features"][0] / 10)).mean()).item() for b in (plain, first)]
    assert loud[1] - loud[0] == pytest.approx(mel[1] - mel[0], abs=3.0)


def test_evaluation_is_never_augmented(extractor):
    with pytest.raises(ValueError, match="as they are"):
        MathRockCollator(extractor, TASKS, augment="light")
