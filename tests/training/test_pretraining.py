# SPDX-License-Identifier: Apache-2.0
"""A folder of music becomes an encoder: found, kept as spectrograms, divided by artist, trained, and gone on with."""

import json
import shutil

import numpy as np
import pytest
import soundfile
import torch
import yaml
from transformers import AutoFeatureExtractor

from fake_corpora import jamendo
from hf_mathrock.data.mel_cache import MelCache
from hf_mathrock.models.configuration_myna import MynaConfig
from hf_mathrock.models.modeling_myna import MynaForPreTraining, MynaModel
from hf_mathrock.training.pretraining import run_pretraining
from hf_mathrock.training.pretraining_recipe import PretrainingData, load_pretraining_recipe
from hf_mathrock.training.pretraining_tracks import load_tracks
from hf_mathrock.training.recipe import load_recipe, run_recipe
from noise_tracks import RATE, noise
from tiny_myna import SETTINGS, tiny_myna_extractor, tiny_myna_for_pretraining

TRAINING = {
    "max_steps": 6,
    "per_device_train_batch_size": 4,
    "eval_strategy": "steps",
    "eval_steps": 3,
    "save_strategy": "steps",
    "save_steps": 2,
    "use_cpu": True,
    "disable_tqdm": True,
}


@pytest.fixture(scope="module")
def music(tmp_path_factory):
    """Ten artists with two songs each, one of which is silent, one short, and one no music."""
    folder = tmp_path_factory.mktemp("music")
    for artist in range(10):
        for song in range(2):
            path = folder / f"artist {artist}" / "album" / f"{song}.wav"
            path.parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(path, noise(10 * artist + song, 6.0 + song), RATE)
    soundfile.write(folder / "artist 9" / "album" / "1.wav", np.zeros(RATE * 5), RATE)
    soundfile.write(folder / "artist 8" / "album" / "1.wav", noise(1, 0.7), RATE)
    (folder / "artist 7" / "album" / "1.wav").write_bytes(b"no music at all")
    return folder


@pytest.fixture
def recipe(tmp_path, music):
    def write(**changes):
        settings = {
            "name": "small",
            "model": {"model_type": "myna", **SETTINGS},
            "data": {"source": str(music), "cache": str(tmp_path / "cache"), "num_workers": 0, "max_broken": 0.1},
            "pretraining": {"min_seconds": 1, "max_seconds": 4, "validation_seconds": 2},
            "training": TRAINING,
            **changes,
        }
        path = tmp_path / "recipe.yaml"
        path.write_text(yaml.safe_dump(settings))
        return path

    return write


@pytest.mark.filterwarnings("ignore:1 of 20 tracks")
def test_a_folder_of_music_becomes_an_encoder(recipe, music, tmp_path):
    path, out, steps = recipe(), tmp_path / "out", []
    metrics = run_recipe(path, out, progress=lambda *counts: steps.append(counts))
    assert steps[0] == (0, 20) and steps[-1] == (20, 20)
    assert metrics["output_dir"] == str(out) and 0 <= metrics["retrieval_top1"] <= 1 and np.isfinite(metrics["loss"])
    assert not (out / "trainer").exists() and (out / "modeling_myna.py").exists()

    log = json.loads((out / "training_log.json").read_text())
    assert log[-1]["step"] == 6 and {"eval_loss", "eval_retrieval_top1"} < set(log[-1])
    assert json.loads((out / "recipe.json").read_text())["pretraining"]["max_seconds"] == 4

    songs = json.loads((out / "training_songs.json").read_text())
    report = songs["report"]
    assert len(songs["songs"]) + len(songs["selected_on"]) == 17 and not set(songs["songs"]) & set(songs["selected_on"])
    assert report["num_songs"] == {"train": len(songs["songs"]), "validation": len(songs["selected_on"])}
    assert [entry["id"] for entry in report["broken"]] == ["artist 7/album/1.wav"]
    assert (report["silent"], report["short"]) == (["artist 9/album/1.wav"], ["artist 8/album/1.wav"])

    extractor = AutoFeatureExtractor.from_pretrained(out)
    model, info = MynaModel.from_pretrained(out, output_loading_info=True)
    assert not info["missing_keys"]
    embedding = model(**extractor(str(music / "artist 1" / "album" / "0.wav"))).pooler_output
    assert embedding.shape == (1, 24) and torch.isfinite(embedding).all()
    with pytest.raises(ValueError, match="holds a trained model already"):
        run_pretraining(path, out)


@pytest.mark.filterwarnings("ignore:1 of 20 tracks")
def test_an_interrupted_run_ends_as_one_that_was_not(recipe, tmp_path, monkeypatch):
    from hf_mathrock.training.myna_trainer import MynaTrainer

    path = recipe()
    whole = run_pretraining(path, tmp_path / "whole")
    with monkeypatch.context() as patch:
        step = MynaTrainer.training_step

        def interrupted(self, *args, **kwargs):
            if self.state.global_step == 5:
                raise KeyboardInterrupt
            return step(self, *args, **kwargs)

        patch.setattr(MynaTrainer, "training_step", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run_pretraining(path, tmp_path / "stopped")
    assert (tmp_path / "stopped" / "trainer" / "checkpoint-4").is_dir()
    with pytest.raises(ValueError, match="--resume"):
        run_pretraining(path, tmp_path / "stopped")
    with pytest.raises(ValueError, match="differs in pretraining"):
        run_pretraining(path, tmp_path / "stopped", {"pretraining.max_seconds": 5}, resume=True)
    resumed = run_pretraining(path, tmp_path / "stopped", resume=True)
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("whole", "stopped")]
    assert weights[0] == weights[1]
    assert {**whole, "output_dir": ""} == {**resumed, "output_dir": ""}


@pytest.mark.filterwarnings("ignore:1 of 20 tracks")
def test_a_run_goes_on_from_an_encoder(recipe, tmp_path):
    first = tmp_path / "first"
    tiny_myna_for_pretraining(seed=5, pooling="mean").save_pretrained(first)
    tiny_myna_extractor().save_pretrained(first)
    path = recipe(model={"pretrained": str(first)}, training={**TRAINING, "max_steps": 1, "learning_rate": 0.0})
    run_pretraining(path, tmp_path / "out")
    before, after = (MynaForPreTraining.from_pretrained(folder) for folder in (first, tmp_path / "out"))
    assert after.config.pooling == "mean"
    for name, value in before.state_dict().items():
        torch.testing.assert_close(after.state_dict()[name], value)


def test_generated_pieces_need_no_files(recipe, tmp_path):
    data = {
        "train": {"num": 4, "seed": 10, "seconds": 32},
        "validation": {"num": 2, "seed": 90, "seconds": 32},
        "num_workers": 0,
    }
    path = recipe(data=data, training={**TRAINING, "max_steps": 1, "eval_strategy": "no", "save_strategy": "no"})
    run_pretraining(path, tmp_path / "out", cache_dir=tmp_path / "mels")
    (cache,) = (tmp_path / "mels").iterdir()
    assert len(MelCache(cache)) == 6
    assert not (tmp_path / "out" / "training_songs.json").exists()
    with pytest.raises(ValueError, match="works in common"):
        run_pretraining(path, tmp_path / "again", {"data.validation": {"num": 2, "seed": 13, "seconds": 32}})


def divided(source, tmp_path, **options):
    data = PretrainingData(source=str(source), num_workers=0, max_broken=0.1, **options)
    return load_tracks(data, tiny_myna_extractor(), min_seconds=1.0, cache_dir=tmp_path / "mels")


@pytest.mark.filterwarnings("ignore:1 of 20 tracks")
def test_no_artist_is_learned_from_and_measured_on(music, tmp_path):
    tracks = divided(music, tmp_path, validation_share=0.2)
    train, validation = set(tracks.train.artists), set(tracks.validation.artists)
    assert not train & validation and len(train | validation) == 10
    assert 2 <= len(tracks.validation) <= 5
    assert tracks.report["split"] == "by artist, album, folder"


def test_of_one_artist_whole_albums_are_measured_on(tmp_path):
    for song in range(12):
        path = tmp_path / "music" / "toe" / f"album {song // 3}" / f"{song}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, noise(song, 2.0), RATE)
    tracks = divided(tmp_path / "music", tmp_path)
    assert not set(tracks.train.albums) & set(tracks.validation.albums) and len(tracks.validation) == 3
    assert tracks.report["split"] == "by album, folder"


def test_where_no_artist_is_known_that_is_said_and_copies_stay_together(tmp_path):
    (tmp_path / "music").mkdir()
    for song in range(8):
        soundfile.write(tmp_path / "music" / f"{song}.wav", noise(song % 4, 2.0), RATE)
    with pytest.warns(UserWarning, match="no artists are known"):
        tracks = divided(tmp_path / "music", tmp_path)
    assert not set(tracks.train.contents) & set(tracks.validation.contents)
    assert tracks.report["split"] == "by track" and len(tracks.validation) >= 2


def test_a_published_split_is_kept_to_and_its_test_stays_unheard(tmp_path, monkeypatch):
    import fake_corpora

    more = {
        part: [
            (f"track_{part}{i}", f"artist_{part}{i}", "album", f"0{i}/{part}{i}.mp3", "9", ["genre---rock"])
            for i in range(2)
        ]
        for part in ("train", "validation", "test")
    }
    monkeypatch.setattr(fake_corpora, "JAMENDO", more)
    jamendo(tmp_path / "corpus", subset="top50tags", seconds=2.0)
    with pytest.warns(UserWarning, match="not comparable"):
        tracks = divided(tmp_path / "corpus", tmp_path, corpus="mtg-jamendo:subset=top50tags")
    assert sorted(tracks.train.ids) == ["00/train0.mp3", "01/train1.mp3"]
    assert sorted(tracks.validation.ids) == ["00/validation0.mp3", "01/validation1.mp3"]
    assert tracks.report["split"] == "given"


def test_a_second_process_only_reads(music, tmp_path):
    data = PretrainingData(source=str(music), cache=str(tmp_path / "cache"), num_workers=0, max_broken=0.1)
    with pytest.warns(UserWarning, match="1 of 20"):
        first = load_tracks(data, tiny_myna_extractor())
    files = {path: path.stat().st_mtime_ns for path in (tmp_path / "cache").iterdir()}
    second = load_tracks(data, tiny_myna_extractor(), write=False)
    assert (first.train.ids, first.validation.ids) == (second.train.ids, second.validation.ids)
    assert files == {path: path.stat().st_mtime_ns for path in (tmp_path / "cache").iterdir()}


def test_a_library_of_three_songs_is_too_small(music, tmp_path):
    shutil.copytree(music / "artist 1", tmp_path / "music")
    with pytest.raises(ValueError, match="2 tracks are left of 2 .* too few"):
        divided(tmp_path / "music", tmp_path)


def test_a_batch_is_no_larger_than_the_library(recipe, tmp_path):
    path = recipe(training={**TRAINING, "per_device_train_batch_size": 64, "max_steps": 1, "eval_strategy": "no"})
    with pytest.warns(UserWarning, match=r"A batch would be 64 tracks, and there are 1[0-9] to learn from"):
        run_pretraining(path, tmp_path / "out")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"pretraning": {}}, "'pretraning' in the recipe; did you mean 'pretraining'"),
        ({"pretraining": {"max_second": 3}}, "'max_second' in `pretraining`; did you mean 'max_seconds'"),
        ({"pretraining": {"max_seconds": "long"}}, "`pretraining.max_seconds` is 'long'; a number"),
        ({"model": {"model_type": "myna", "sizes": "tiny"}}, "did you mean 'size'"),
        ({"model": {"model_type": "myna", "size": "huge"}}, "huge"),
        ({"model": {"model_type": "musicnn"}}, "learns from labels"),
        ({"model": {"pretrained": "nowhere"}}, "no such folder here"),
        ({"model": {"model_type": "myna", "patchout": 1.0}}, "`patchout` is 1.0"),
        ({"training": {"learning_rat": 1}}, "did you mean 'learning_rate'"),
        ({"training": {"num_train_epochs": 0}}, "nothing would be trained"),
        ({"data": {}}, "on the command line --data"),
        ({"data": {"source": "x", "train": {"num": 3}}}, "not both"),
        ({"data": {"train": {"num": 3}}}, "`data.validation` beside it"),
        ({"data": {"train": {"seed": 3}, "validation": {"num": 3}}}, "`data.train` lacks `num`"),
        ({"data": {"source": "x", "validation_share": 1.0}}, "`data.validation_share` is 1.0"),
        ({"data": {"source": "no such folder", "num_workers": 0}}, "no such file"),
    ],
)
def test_what_is_wrong_is_named(changes, message, recipe, tmp_path):
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        run_pretraining(recipe(**changes), tmp_path / "out", cache_dir=tmp_path / "mels")


def test_single_fields_go_before_those_of_a_preset(recipe):
    model = {"model_type": "myna", "size": "tiny", "front_end": "rpe-44k", "num_hidden_layers": 3}
    from hf_mathrock.training.pretraining_recipe import encoder_config, encoder_family

    loaded = load_pretraining_recipe(recipe(model=model))
    config = encoder_config(encoder_family(loaded.model), loaded.model)
    assert config.hidden_size == MynaConfig.size("tiny")["hidden_size"] != MynaConfig().hidden_size
    assert (config.num_hidden_layers, config.sampling_rate) == (3, 44_100)


def test_a_recipe_without_labels_is_no_recipe_with_labels(recipe):
    with pytest.raises(ValueError, match="load_pretraining_recipe"):
        load_recipe(recipe())


def test_what_lies_in_one_album_folder_stays_together_whatever_it_is_called(tmp_path):
    for song in range(12):
        name = f"{song} - live.wav" if song % 2 else f"{song}.wav"  # which reads like an artist and a title
        path = tmp_path / "music" / f"artist {song // 3}" / "album" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, noise(song, 2.0), RATE)
    tracks = divided(tmp_path / "music", tmp_path)
    folders = [{name.split("/")[0] for name in part.ids} for part in (tracks.train, tracks.validation)]
    assert not folders[0] & folders[1] and len(tracks.validation) == 3
