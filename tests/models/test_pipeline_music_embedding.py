# SPDX-License-Identifier: Apache-2.0
"""What `pipeline("music-embedding")` promises."""

import json

import numpy as np
import pytest
import torch
from transformers import pipeline
from transformers.pipelines.pt_utils import KeyDataset

import hf_mathrock
from hf_mathrock import AudioReadError, MathRockFeatureExtractor, MynaFeatureExtractor
from hf_mathrock.models.pipeline_music_embedding import cut_chunks
from tiny_myna import tiny_myna, tiny_myna_config, tiny_myna_extractor

RATE = 16_000


def music(seconds, seed=0, silent=()):
    """Noise; `silent` lists pairs of seconds between which there is none."""
    samples = np.random.default_rng(seed).standard_normal(round(seconds * RATE)).astype(np.float32) * 0.1
    for start, end in silent:
        samples[round(start * RATE) : round(end * RATE)] = 0
    return {"array": samples, "sampling_rate": RATE}


def make(extractor=None, **changes):
    extractor = extractor or tiny_myna_extractor(**{key: changes[key] for key in changes if key != "seed"})
    return pipeline("music-embedding", model=tiny_myna(**changes), feature_extractor=extractor, device="cpu")


@pytest.fixture(scope="module")
def pipe():
    return make()


@pytest.fixture(scope="module")
def windowed(tiny_settings):
    torch.manual_seed(0)
    model = hf_mathrock.MathRockModel(hf_mathrock.MathRockConfig(**tiny_settings)).eval()
    return pipeline("music-embedding", model=model, feature_extractor=MathRockFeatureExtractor(), device="cpu")


def heard(pipe, audio):
    """What the model itself says of a whole recording."""
    with torch.no_grad():
        return pipe.model(**pipe.feature_extractor(audio)).pooler_output[0].numpy()


def test_the_embedding_is_the_models_of_the_whole_recording(pipe):
    result = pipe(music(7))
    np.testing.assert_allclose(result["embedding"], heard(pipe, music(7)), atol=1e-5)
    assert result["mode"] == "whole" and result["duration"] == 7.0 and result["quality"] == []
    assert result["settings"] == {"how": "whole"}
    json.dumps(result, allow_nan=False)


def test_the_order_of_a_recording_matters_to_the_whole_but_not_to_equal_chunks(pipe):
    one, other = music(4, seed=1)["array"], music(4, seed=2)["array"] * 0.2
    there, back = (np.concatenate(parts) for parts in ((one, other), (other, one)))
    whole = [np.array(pipe(audio)["embedding"]) for audio in (there, back)]
    assert np.abs(whole[0] - whole[1]).max() > 1e-3
    # At the joint one frame hears both.
    chunks = [np.array(pipe(audio, chunk_seconds=4.0)["embedding"]) for audio in (there, back)]
    assert np.abs(chunks[0] - chunks[1]).max() < np.abs(whole[0] - whole[1]).max()


def test_chunks_are_pieces_of_the_recording_at_its_own_level(pipe):
    audio = np.concatenate([music(4, seed=1)["array"], music(4, seed=2)["array"] * 0.01])
    extractor = pipe.feature_extractor
    decibels = extractor.decibels(audio)
    length = round(4 * extractor.frames_per_second)
    pieces = [decibels[first : first + length] for first in (0, length)]
    values = [extractor.values_of(piece, extractor.reference_of(decibels)) for piece in pieces]
    with torch.no_grad():
        expected = [pipe.model(torch.from_numpy(value)[None]).pooler_output[0].numpy() for value in values]
    result = pipe(audio, chunk_seconds=4)
    np.testing.assert_allclose(result["embedding"], np.mean(expected, axis=0), atol=1e-5)
    assert result["mode"] == "chunks" and result["settings"] == {"how": "chunks", "chunk_seconds": 4.0}


def test_a_rest_of_a_recording_is_a_chunk_only_if_it_is_worth_one():
    def lengths(num_frames, seconds=4.0, least=5):
        return [len(chunk) for chunk in cut_chunks(np.zeros((num_frames, 1)), seconds, 10.0, least)]

    assert lengths(89) == [40, 40] and lengths(90) == [40, 40, 10] and lengths(3) == [3]
    assert lengths(23, seconds=1.0) == [10, 10]  # less than a patch
    assert lengths(12, seconds=0.1) == [5, 5]  # no chunk is shorter than a patch


def test_silent_chunks_say_nothing(pipe):
    audio = music(6, seed=3, silent=[(2.5, 6)])
    values = pipe.feature_extractor(audio)["input_features"][:, : round(3 * pipe.feature_extractor.frames_per_second)]
    with torch.no_grad():
        first = pipe.model(values).pooler_output[0]
    np.testing.assert_allclose(pipe(audio, chunk_seconds=3.0)["embedding"], first, atol=1e-5)


def test_silence_has_no_embedding_and_says_so(pipe):
    result = pipe(np.zeros(3 * RATE, np.float32))
    assert result["embedding"] is None and result["mode"] is None and result["quality"] == ["silent"]


@pytest.mark.parametrize("num_samples", [1, 100, 16 * 512])
def test_a_clip_of_a_patch_or_less_has_an_embedding(pipe, num_samples):
    result = pipe(music(1)["array"][:num_samples])
    assert np.isfinite(result["embedding"]).all() and result["mode"] == "whole"
    assert "too_short" in result["quality"]


def test_a_batch_of_any_lengths_gives_what_each_gives_alone(pipe):
    clips = [music(seconds, seed) for seed, seconds in enumerate((5, 2, 5, 0.1, 9))] + [np.zeros(RATE, np.float32)]
    alone = [pipe(clip) for clip in clips]
    for options in ({"batch_size": 1}, {"batch_size": 4}, {"batch_size": 8, "num_workers": 2}):
        for one, other in zip(alone, pipe(clips, **options), strict=True):
            assert (one["embedding"] is None) == (other["embedding"] is None)
            np.testing.assert_allclose(one["embedding"] or 0, other["embedding"] or 0, atol=1e-5)


def test_recordings_together_stay_within_the_models_tokens():
    pipe = make(max_tokens=200)  # three seconds are 8 * 5 tokens
    sizes = []
    forward = pipe.model.forward
    pipe.model.forward = lambda **inputs: sizes.append(tuple(inputs["input_features"].shape[:2])) or forward(**inputs)
    results = pipe([music(3, seed) for seed in range(12)], batch_size=8)
    assert {result["mode"] for result in results} == {"whole"}
    assert sum(rows for rows, _ in sizes) == 12
    assert all(rows * (frames // 16) * 8 <= 200 for rows, frames in sizes) and max(rows for rows, _ in sizes) > 1


@pytest.mark.parametrize("long_input", ["patchout", "two_level"])
def test_a_recording_beyond_the_models_tokens_says_how_it_was_heard(long_input):
    pipe = make(max_tokens=100, long_input=long_input)
    results = pipe([music(30), music(3)])
    assert [result["mode"] for result in results] == [long_input, "whole"]
    assert results[0]["embedding"] == pipe(music(30))["embedding"]  # the same selection every time


def test_files_bytes_datasets_and_generators_are_heard_alike(pipe, tmp_path):
    import soundfile

    path = tmp_path / "a.wav"
    soundfile.write(path, music(2)["array"], RATE, subtype="FLOAT")
    expected = pipe(music(2))["embedding"]
    for audio in (str(path), path.read_bytes(), {"audio": music(2)}):
        np.testing.assert_allclose(pipe(audio)["embedding"], expected, atol=1e-6)
    rows = [{"clip": music(2)}, {"clip": music(1)}]

    class Rows(torch.utils.data.Dataset):
        def __len__(self):
            return len(rows)

        def __getitem__(self, index):
            return rows[index]

    assert len(list(pipe(KeyDataset(Rows(), "clip")))) == 2
    stream = pipe(row["clip"] for row in rows)
    assert next(stream)["embedding"] == expected and pipe([]) == []


def test_reading_ahead_stops_with_whoever_asked(pipe):
    asked = []

    def endless():
        while True:
            asked.append(1)
            yield music(0.5)

    stream = pipe(endless(), num_workers=2, batch_size=1)
    next(stream)
    stream.close()
    assert len(asked) <= 4


def test_one_bad_recording_raises_and_one_of_many_is_told(pipe, tmp_path):
    (tmp_path / "text.mp3").write_text("no audio here, only words and words and words")
    with pytest.raises(AudioReadError, match="it is text"):
        pipe(str(tmp_path / "text.mp3"))
    for num_workers in (0, 1):
        with pytest.warns(UserWarning, match="it is text"):
            results = pipe([music(1), str(tmp_path / "text.mp3"), music(1)], num_workers=num_workers)
        assert ["error" in result for result in results] == [False, True, False]


def test_a_nan_embedding_is_refused():
    pipe = make()
    with torch.no_grad():
        next(pipe.model.patch_embeddings.parameters()).fill_(float("nan"))
    with pytest.raises(RuntimeError, match="NaN or infinite embedding .* the checkpoint is broken"):
        pipe(music(1))


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"chunk_seconds": 0}, ValueError, "chunk_seconds"),
        ({"chunk_seconds": float("inf")}, ValueError, "chunk_seconds"),
        ({"window_seconds": 3}, TypeError, "no option 'window_seconds'.*chunk_seconds"),
        ({"chunk_second": 3}, TypeError, "did you mean 'chunk_seconds'"),
        ({"batch_size": -1}, ValueError, "batch_size"),
    ],
)
def test_a_wrong_option_is_refused_by_name(pipe, options, error, words):
    with pytest.raises(error, match=words):
        pipe(music(1), **options)


def test_models_of_a_few_seconds_give_the_mean_of_their_windows(windowed):
    audio = np.concatenate([music(10, seed=1)["array"], music(10, seed=2)["array"]])
    audio = {"array": audio, "sampling_rate": RATE}
    inputs = windowed.feature_extractor(audio, window_seconds=10.0, hop_seconds=10.0)
    del inputs["windows_per_clip"]
    with torch.no_grad():
        expected = windowed.model(**inputs).embeddings.mean(dim=0)
    result = windowed(audio, chunk_seconds=10.0)
    np.testing.assert_allclose(result["embedding"], expected, atol=1e-5)
    assert result["mode"] == "chunks" and not windowed.hears_whole_tracks
    assert result["settings"] == {"how": "chunks", "chunk_seconds": 10.0, "hop_seconds": 10.0}
    assert windowed(audio)["settings"] == {"how": "chunks", "chunk_seconds": 10.0, "hop_seconds": 5.0}
    assert windowed(np.zeros(RATE, np.float32), sampling_rate=RATE)["embedding"] is None
    with pytest.raises(ValueError, match="takes windows of up to 10 s"):
        windowed(audio, chunk_seconds=11.0)


def test_a_foreign_model_is_refused_with_the_reason():
    from transformers import Wav2Vec2Config, Wav2Vec2FeatureExtractor, Wav2Vec2Model

    config = Wav2Vec2Config(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8, conv_dim=[8] * 7
    )
    with pytest.raises(ValueError, match="cannot use 'wav2vec2' models: their Wav2Vec2FeatureExtractor"):
        pipeline("music-embedding", model=Wav2Vec2Model(config), feature_extractor=Wav2Vec2FeatureExtractor())


def test_a_space_tells_whatever_changes_an_embedding_and_nothing_else():
    spaces = {
        "as it is": make().space(),
        "chunks": make().space(chunk_seconds=3),
        "other weights": make(seed=1).space(),
        "other slopes": make(slopes="canonical").space(),
        "other places": make(position_embedding="none").space(),
        "other long input": make(long_input="two_level").space(),
        "other hearing": make(MynaFeatureExtractor(top_db=60.0)).space(),
    }
    texts = {json.dumps(space, sort_keys=True) for space in spaces.values()}
    assert len(texts) == len(spaces)
    trained = make(patchout=0.5, temperature=0.2, num_labels=3)
    assert trained.space() == spaces["as it is"]
    assert json.loads(json.dumps(trained.space())) == trained.space()


def test_a_saved_model_has_the_space_of_its_source(tmp_path, pipe):
    pipe.save_pretrained(tmp_path / "myna")
    loaded = pipeline("music-embedding", model=str(tmp_path / "myna"), device="cpu")
    assert {**loaded.space(), "model": None} == {**pipe.space(), "model": None}
    assert loaded.space()["model"] == "myna" and loaded.space()["revision"] is None
    np.testing.assert_allclose(loaded(music(2))["embedding"], pipe(music(2))["embedding"], atol=1e-6)


def test_a_model_for_pretraining_and_one_for_labels_embed_as_their_encoder(tmp_path):
    from tiny_myna import tiny_myna_for_pretraining

    model = tiny_myna_for_pretraining()
    model.save_pretrained(tmp_path)
    tiny_myna_extractor().save_pretrained(tmp_path)
    loaded = pipeline("music-embedding", model=str(tmp_path), device="cpu")
    with torch.no_grad():
        expected = model.myna(**loaded.feature_extractor(music(2))).pooler_output[0]
    np.testing.assert_allclose(loaded(music(2))["embedding"], expected, atol=1e-6)
    assert type(loaded.model).__name__ == "MynaModel"
    labelled = hf_mathrock.MynaForAudioClassification(tiny_myna_config(num_labels=3)).eval()
    direct = pipeline("music-embedding", model=labelled, feature_extractor=tiny_myna_extractor(), device="cpu")
    assert len(direct(music(2))["embedding"]) == 24
