# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import csv
import json
import os
import pickle
import subprocess
import sys
import warnings

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
import soundfile
from datasets import (
    Audio,
    ClassLabel,
    Dataset,
    DatasetDict,
    Features,
    IterableDataset,
    List,
    Value,
    concatenate_datasets,
    load_from_disk,
)

from hf_mathrock import load_labelled_audio
from hf_mathrock.data.corpora import CorpusRows
from hf_mathrock.data.labelled_audio import LabelledAudio
from hf_mathrock.data.labels import noted_label_tasks
from hf_mathrock.data.loading import LeakWarning, content_ids

VIBE = {"name": "vibe", "type": "single_label", "labels": ["aggressive", "atmospheric", "melancholic"]}
EMOTION = {"name": "emotion", "type": "multi_label", "labels": ["anger", "joy", "grief", "calm"]}
TEMPO = {"name": "tempo", "type": "single_label", "labels": ["slow", "moderate", "fast"]}
TASKS = [VIBE, EMOTION, TEMPO]
VIBES = VIBE["labels"]


@pytest.fixture(autouse=True)
def quiet_caches(monkeypatch, tmp_path_factory):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path_factory.mktemp("cache"))


def tone(path, number, seconds=0.1):
    """A file whose contents no other number has."""
    path.parent.mkdir(parents=True, exist_ok=True)
    time = np.arange(round(8000 * seconds)) / 8000
    soundfile.write(path, 0.5 * np.sin(2 * np.pi * (100 + 10 * number) * time), 8000, subtype="PCM_16")
    return path


def songs_in(folder, num=20):
    """Rows of a table and their files: every artist has two songs, and labels come round in turn."""
    rows = []
    for number in range(num):
        name = f"{number:03d}.wav"
        tone(folder / name, number)
        vibe = VIBES[number % 3]
        rows.append({"file_name": name, "vibe": vibe, "artist": f"artist {number // 2}", "bpm": 100.5 + number})
    return rows


def write_csv(path, rows, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(dict.fromkeys(key for row in rows for key in row)), **options)
        writer.writeheader()
        writer.writerows(rows)
    return path


def write_jsonl(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def write_parquet(path, rows):
    pyarrow.parquet.write_table(pa.Table.from_pylist(rows), path)


WRITERS = {"csv": write_csv, "jsonl": write_jsonl, "parquet": write_parquet}


def load(source, tasks=None, **options):
    """Everything in one split, unless a test is about splits."""
    options.setdefault("shares", {"train": 1.0})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return load_labelled_audio(source, tasks, **options)


def by_song(songs, column="labels"):
    return {row["song"]: row[column] for split in songs.values() for row in split}


# --- shapes ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", WRITERS)
def test_a_folder_with_a_table_gives_rows_in_the_agreed_form(tmp_path, form):
    rows = songs_in(tmp_path)
    WRITERS[form](tmp_path / f"metadata.{form}", rows)
    songs = load_labelled_audio(tmp_path, [VIBE])
    assert list(songs) == ["train", "validation", "test"]
    assert songs.tasks == [{**VIBE, "head_hidden": None, "head_dropout": 0.0}]
    row = songs["train"][0]
    assert set(row) == {"audio", "labels", "group", "song", "file_name", "vibe", "artist", "bpm"}
    assert row["audio"] == {"path": str(tmp_path / row["song"]), "bytes": None}
    assert row["labels"] == {"vibe": VIBES.index(row["vibe"])}
    assert row["group"] == f"artist={row['artist']}" and isinstance(row["bpm"], float)
    assert songs["train"].features["audio"] == Audio(decode=False)
    assert by_song(songs, "vibe") == {row["file_name"]: row["vibe"] for row in rows}


def test_a_table_in_a_folder_of_its_own_finds_files_beside_it_above_it_and_anywhere(tmp_path):
    rows = [
        {"path": tone(tmp_path / "tables/a.wav", 0).name, "vibe": "aggressive"},
        {"path": os.path.relpath(tone(tmp_path / "elsewhere/b.wav", 1), tmp_path / "tables"), "vibe": "melancholic"},
        {"path": str(tone(tmp_path / "elsewhere/c.wav", 2)), "vibe": "melancholic"},
    ]
    songs = load(write_csv(tmp_path / "tables/labels.csv", rows), [VIBE])
    assert {name: labels["vibe"] for name, labels in by_song(songs).items()} == {
        "a.wav": 0,
        rows[1]["path"]: 2,
        "c.wav": 2,
    }


def test_splits_stand_in_sub_folders_under_any_of_their_usual_names(tmp_path):
    for number, name in enumerate(["train", "Valid", "testing"]):
        tone(tmp_path / name / "x.wav", number)
        write_csv(tmp_path / name / "metadata.csv", [{"file_name": "x.wav", "vibe": VIBES[number]}])
    songs = load(tmp_path, [VIBE])
    assert {name: split["vibe"] for name, split in songs.items()} == {
        "train": [VIBES[0]],
        "validation": [VIBES[1]],
        "test": [VIBES[2]],
    }
    assert songs.report["split"] == "given"
    assert songs["test"]["song"] == ["testing/x.wav"]


@pytest.mark.parametrize("how", ["column", "paths", "tables"])
def test_splits_stand_in_a_column_in_the_paths_or_in_the_tables_names(tmp_path, how):
    rows = []
    for number, split in enumerate(["train", "train", "dev", "test"]):
        folder = split if how == "paths" else "audio"
        path = tone(tmp_path / folder / f"{number}.wav", number).relative_to(tmp_path)
        rows.append({"file_name": str(path), "vibe": VIBES[number % 2], "split": split})
    if how == "tables":
        for split in ("train", "dev", "test"):
            write_csv(tmp_path / f"{split}.csv", [row for row in rows if row["split"] == split])
    else:
        kept = [row if how == "column" else {**row, "split": ""} for row in rows]
        write_csv(tmp_path / "metadata.csv", kept)
    songs = load(tmp_path, [VIBE])
    assert songs.report["num_songs"] == {"train": 2, "validation": 1, "test": 1}
    assert songs.report["split"] == "given"


def test_without_a_table_the_sub_folders_are_the_labels(tmp_path):
    for number, vibe in enumerate(VIBES * 2):
        tone(tmp_path / vibe / f"{number}.wav", number)
    (tmp_path / "aggressive" / "notes.txt").write_text("not a song")
    songs = load(tmp_path)
    assert [task["labels"] for task in songs.tasks] == [VIBES]
    assert by_song(load(tmp_path, TASKS))["melancholic/2.wav"]["vibe"] == 2


def dataset(folder, num=12):
    features = Features(
        {"audio": Audio(decode=False), "genre": ClassLabel(names=["math", "emo"]), "artist": Value("string")}
    )
    columns = {
        "audio": [str(tone(folder / f"{number}.wav", number)) for number in range(num)],
        "genre": [number % 2 for number in range(num)],
        "artist": [f"artist {number // 2}" for number in range(num)],
    }
    return Dataset.from_dict(columns, features=features)


def test_a_data_set_in_memory_gives_its_class_labels_by_name(tmp_path):
    songs = load(dataset(tmp_path))
    assert [(task["name"], task["type"], task["labels"]) for task in songs.tasks] == [
        ("genre", "single_label", ["math", "emo"])
    ]
    # The model counts the classes in another order.
    turned = load(dataset(tmp_path), [{"name": "genre", "type": "single_label", "labels": ["emo", "jazz", "math"]}])
    assert [row["labels"]["genre"] for row in turned["train"]][:2] == [2, 0]


def test_a_hidden_class_is_unknown(tmp_path):
    rows = dataset(tmp_path).map(lambda row, index: {"genre": -1 if index == 3 else row["genre"]}, with_indices=True)
    assert load(rows).report["known"] == {"train": {"genre": 11}}


def test_a_list_of_class_labels_is_a_multi_label_task(tmp_path):
    features = Features({"audio": Audio(decode=False), "tags": List(ClassLabel(names=["odd", "loud", "soft"]))})
    paths = [str(tone(tmp_path / f"{number}.wav", number)) for number in range(3)]
    songs = load(Dataset.from_dict({"audio": paths, "tags": [[0, 2], [], [1]]}, features=features))
    assert [row["labels"]["tags"] for row in songs["train"]] == [[1, 0, 1], [0, 0, 0], [0, 1, 0]]
    assert songs.tasks[0]["type"] == "multi_label"


def test_a_saved_data_set_carries_its_audio_along(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        rows = dataset(tmp_path / "audio")
        DatasetDict(train=rows.select(range(8)), test=rows.select(range(8, 12))).save_to_disk(tmp_path / "saved")
    for number in range(12):
        (tmp_path / "audio" / f"{number}.wav").unlink()
    songs = load(tmp_path / "saved")
    assert songs.report["num_songs"] == {"train": 8, "test": 4}
    assert songs["test"][0]["audio"]["bytes"][:4] == b"RIFF"


def test_a_copy_of_a_hub_repository_is_read_as_the_hub_would(tmp_path, monkeypatch):
    repository = tmp_path / "repository"
    (repository / "data").mkdir(parents=True)
    for split, span in (("train", range(8)), ("test", range(8, 12))):
        rows = dataset(tmp_path / "audio").select(span)
        audio = [{"path": "x.wav", "bytes": (tmp_path / f"audio/{number}.wav").read_bytes()} for number in span]
        rows = concatenate_datasets([rows.remove_columns("audio"), Dataset(pa.table({"audio": audio}))], axis=1)
        rows = rows.cast_column("audio", Audio(decode=False))
        rows.to_parquet(repository / f"data/{split}-00000-of-00001.parquet")
    songs = load(repository, shares=None)
    assert songs.report["split"] == "given, validation taken from train by group"
    assert sum(songs.report["num_songs"].values()) == 12 and songs.report["num_songs"]["test"] == 4

    import datasets

    real = datasets.load_dataset
    asked = []

    def from_the_hub(name):
        asked.append(name)
        return real(str(repository))

    monkeypatch.setattr(datasets, "load_dataset", from_the_hub)
    assert load("someone/songs").report["num_songs"] == {"train": 8, "test": 4}
    assert asked == ["someone/songs"]


def corpus_of(folder):
    rows = [
        {"audio": str(tone(folder / f"{n}.wav", n)), "song": f"track {n}", "genre": ["emo", None, "math"][n % 3]}
        | {"artist": f"artist {n}", "split": "validation" if n > 7 else "train" if n < 5 else "test"}
        for n in range(9)
    ]
    tasks = [{"name": "genre", "type": "single_label", "labels": ["math", "emo", "jazz"]}]
    return CorpusRows(rows, tasks, "A Corpus 1.0", ["one is missing"], [{"song": "track 9", "error": "missing"}])


def test_a_corpus_brings_its_tasks_its_split_and_its_names(tmp_path, monkeypatch):
    asked = []

    def corpus_rows(name, folder, **options):
        asked.append((name, folder, options))
        return corpus_of(tmp_path)

    monkeypatch.setattr("hf_mathrock.data.corpora.corpus_rows", corpus_rows)
    songs = load(tmp_path, corpus="a-corpus")
    assert songs.report["num_songs"] == {"train": 5, "validation": 1, "test": 3}
    assert songs.report["source"] == "A Corpus 1.0" and songs.report["corpus"] == "a-corpus"
    assert songs.report["broken"] == [{"song": "track 9", "error": "missing"}]
    assert songs["train"]["song"][:2] == ["track 0", "track 1"]
    assert [row["labels"]["genre"] for row in songs["train"]] == [1, -100, 0, 1, -100]
    (tmp_path / "pair.pyjama").write_text("{}")
    load(tmp_path / "pair.pyjama")
    load(tmp_path / "pair.hdf5")
    assert asked[1:] == [
        ("pyjama", tmp_path / "pair.pyjama", {}),
        ("pyjama", tmp_path / "pair.pyjama", {"hdf5": tmp_path / "pair.hdf5"}),
    ]


def test_a_name_that_nobody_has_is_one_clear_line():
    with pytest.raises(FileNotFoundError, match="'someone/nothing' is no folder or file here, and the Hub"):
        load("someone/nothing")
    with pytest.raises(FileNotFoundError, match="there is no folder or file './songs.csv'"):
        load("./songs.csv")
    with pytest.raises(TypeError, match="`source` is a int"):
        load(3)


def test_samples_in_memory_become_files_of_their_own(tmp_path):
    wave = (0.3 * np.sin(np.arange(800) / 5)).astype(np.float32)
    rows = {"audio": [{"array": wave.tolist(), "sampling_rate": 8000}] * 2, "vibe": ["aggressive", "melancholic"]}
    songs = load(Dataset.from_dict(rows), [VIBE])
    from hf_mathrock.models.audio_input import read_audio

    np.testing.assert_allclose(read_audio(songs["train"][0]["audio"], 8000), wave, atol=1e-6)


def test_loading_twice_changes_nothing(tmp_path):
    write_csv(tmp_path / "metadata.csv", songs_in(tmp_path))
    songs = load_labelled_audio(tmp_path, [VIBE])
    again = load_labelled_audio(songs)
    for split in songs:
        assert set(again[split].column_names) == set(songs[split].column_names)
        for column in ("labels", "group", "song", "audio"):
            assert list(again[split][column]) == list(songs[split][column])


def test_songs_streamed_from_loaded_ones_keep_their_labels(tmp_path):
    write_csv(tmp_path / "metadata.csv", songs_in(tmp_path, 6))
    rows = load(tmp_path, [VIBE])["train"]
    rows = rows.remove_columns("vibe")
    streamed = load_labelled_audio(rows.to_iterable_dataset(), [VIBE], shares={"train": 1})
    assert [row["labels"] for row in streamed["train"]] == rows["labels"]


def test_the_result_behaves_like_any_dataset_dict(tmp_path):
    write_csv(tmp_path / "metadata.csv", songs_in(tmp_path))
    songs = load_labelled_audio(tmp_path, [VIBE])
    copied = pickle.loads(pickle.dumps(songs))
    assert copied.tasks == songs.tasks and copied.report == songs.report
    mapped = songs.map(lambda row: {"loud": row["bpm"] > 110})
    assert mapped["train"][0]["audio"] == songs["train"][0]["audio"] and "loud" in mapped["train"].column_names
    songs.save_to_disk(tmp_path / "saved")
    assert load_from_disk(str(tmp_path / "saved"))["train"]["labels"] == songs["train"]["labels"]
    json.dumps(songs.report, allow_nan=False)


def test_what_one_sees_is_a_summary(tmp_path):
    rows = songs_in(tmp_path)
    rows[3]["vibe"] = ""
    write_csv(tmp_path / "metadata.csv", rows)
    said = repr(load(tmp_path, [VIBE]))
    assert "20 songs in 10 groups by artist; split: by group" in said
    assert said.splitlines()[2].split() == ["train", "20", "10", "0.0", "19"]


# --- labels ----------------------------------------------------------------------------------------------------------


def test_every_way_to_write_labels_says_the_same(tmp_path):
    ways = [
        "anger;joy",
        "joy | anger",
        "anger, joy",
        "joy\tanger",
        " Joy;ANGER ",
        '["anger", "joy"]',
        "['joy','anger']",
    ]
    ways += [["anger", "joy"], [0, 1], [1.0, 1.0, 0.0, 0.0], "0;1", "1;1;0;0", [True, True, False, False]]
    rows = [{"file_name": tone(tmp_path / f"{n}.wav", n).name, "emotion": way} for n, way in enumerate(ways)]
    write_jsonl(tmp_path / "metadata.jsonl", rows)
    labels = by_song(load(tmp_path, TASKS))
    assert {name: row["emotion"] for name, row in labels.items()} == {row["file_name"]: [1, 1, 0, 0] for row in rows}


def test_what_nobody_knows_stays_unknown_and_what_is_called_none_does_not(tmp_path):
    blank = ["", "  ", "nan", "-100"]
    rows = [
        {"file_name": tone(tmp_path / f"{n}.wav", n).name, "mood": text}
        for n, text in enumerate([*blank, "none", "NA"])
    ]
    write_csv(tmp_path / "metadata.csv", rows)
    songs = load(tmp_path, [{"name": "mood", "type": "single_label", "labels": ["NA", "none"]}, VIBE])
    assert [row["labels"] for row in songs["train"]] == [{"mood": mood, "vibe": -100} for mood in [-100] * 4 + [1, 0]]
    assert songs.report["known"] == {"train": {"mood": 2, "vibe": 0}}
    assert songs.report["label_counts"]["train"]["mood"] == {"NA": 1, "none": 1}


def test_numbers_that_are_names_of_labels_are_names(tmp_path):
    rows = [{"file_name": tone(tmp_path / f"{n}.wav", n).name, "stars": n % 3 + 1} for n in range(6)]
    write_csv(tmp_path / "metadata.csv", rows)
    task = {"name": "stars", "type": "single_label", "labels": ["1", "2", "3"]}
    expected = [0, 1, 2, 0, 1, 2]
    assert [row["labels"]["stars"] for row in load(tmp_path, [task])["train"]] == expected
    inferred = load(tmp_path, columns={"stars": "stars"})
    assert inferred.tasks[0]["labels"] == ["1", "2", "3"]
    assert [row["labels"]["stars"] for row in inferred["train"]] == expected
    write_csv(tmp_path / "metadata.csv", [{**row, "vibe": row.pop("stars") - 1} for row in rows])
    assert [row["labels"]["vibe"] for row in load(tmp_path, [VIBE])["train"]] == expected


def test_a_column_per_label_is_a_multi_hot_row(tmp_path):
    rows = [
        {"file_name": tone(tmp_path / "a.wav", 0).name, "anger": 1, "joy": 0, "grief": ""},
        {"file_name": tone(tmp_path / "b.wav", 1).name, "anger": "", "joy": "", "grief": ""},
    ]
    write_csv(tmp_path / "metadata.csv", rows)
    labels = by_song(load(tmp_path, TASKS))
    assert labels["a.wav"]["emotion"] == [1, 0, -100, -100] and labels["b.wav"]["emotion"] == [-100] * 4


def test_wrong_names_are_told_all_at_once_with_row_column_and_the_closest(tmp_path):
    rows = songs_in(tmp_path, 6)
    rows[1]["vibe"], rows[4]["vibe"] = "agressive", "melancolic"
    write_csv(tmp_path / "metadata.csv", rows)
    with pytest.raises(ValueError) as refused:
        load(tmp_path, [VIBE])
    first, second, *rest = str(refused.value).splitlines()
    assert first == (
        "row 2 of metadata.csv ('001.wav'), column 'vibe': 'agressive' is no label of the task 'vibe'; did you mean "
        "'aggressive'? One more row has a wrong label."
    )
    assert "row 5" in second and "did you mean 'melancholic'" in second and rest == []


def test_another_label_list_than_the_models_points_to_new_heads(tmp_path):
    rows = songs_in(tmp_path, 6)
    for row, vibe in zip(rows, ["sunny", "rainy", "windy", "sunny", "aggressive", "rainy"], strict=True):
        row["vibe"] = vibe
    write_csv(tmp_path / "metadata.csv", rows)
    with pytest.raises(ValueError) as refused:
        load(tmp_path, [VIBE])
    assert "3 of the 4 names in column 'vibe' ('sunny', 'rainy', 'windy') are no labels" in str(refused.value)
    assert "--new-heads" in str(refused.value) and "ignore_mismatched_sizes=True" in str(refused.value)
    assert load(tmp_path).tasks[0]["labels"] == ["aggressive", "rainy", "sunny", "windy"]


# --- tasks that the data speak of ------------------------------------------------------------------------------------


def test_tasks_are_inferred_from_columns_of_labels_and_from_no_others(tmp_path):
    rows = songs_in(tmp_path, 12)
    for number, row in enumerate(rows):
        row["mood"] = ["joy;calm", "calm", "grief;joy"][number % 3]
        row["track_id"], row["title"] = f"id{number % 2}", ["One", "Two"][number % 2]
        row["remark"] = f"Take {number}, a long remark"
        row["year"], row["constant"] = 2000 + number % 2, "same"
    write_csv(tmp_path / "metadata.csv", rows)
    songs = load(tmp_path)
    assert [(task["name"], task["type"], task["labels"]) for task in songs.tasks] == [
        ("vibe", "single_label", VIBES),
        ("mood", "multi_label", ["calm", "grief", "joy"]),
    ]
    assert by_song(songs)["000.wav"] == {"vibe": 0, "mood": [1, 0, 1]}


def test_a_comma_divides_names_only_where_parts_recur(tmp_path):
    def inferred(values):
        rows = [{"file_name": tone(tmp_path / f"{n}.wav", n).name, "genre": value} for n, value in enumerate(values)]
        write_csv(tmp_path / "metadata.csv", rows)
        return load(tmp_path).tasks[0]

    assert inferred(["rock, alternative", "jazz", "jazz", "rock, alternative"])["labels"] == [
        "jazz",
        "rock, alternative",
    ]
    assert inferred(["rock, emo", "rock, jazz", "emo", "jazz"])["labels"] == ["emo", "jazz", "rock"]
    mixed = inferred(["rock, alternative; jazz", "jazz", "rock, alternative", "jazz"])
    assert mixed["type"] == "multi_label" and mixed["labels"] == ["jazz", "rock, alternative"]


def test_spellings_of_one_label_are_one_label(tmp_path):
    rows = [
        {"file_name": tone(tmp_path / f"{n}.wav", n).name, "vibe": v}
        for n, v in enumerate(["Calm", "calm ", "calm", "Odd"])
    ]
    write_csv(tmp_path / "metadata.csv", rows)
    songs = load(tmp_path)
    assert songs.tasks[0]["labels"] == ["Odd", "calm"]
    assert [row["labels"]["vibe"] for row in songs["train"]] == [1, 1, 1, 0]


def test_named_columns_limit_what_is_inferred_and_feed_tasks_of_other_names(tmp_path):
    rows = songs_in(tmp_path, 6)
    for row in rows:
        row["my column"] = row.pop("vibe")
        row["key"] = "C"
    write_csv(tmp_path / "metadata.csv", rows)
    assert [task["name"] for task in load(tmp_path, columns={"vibe": "my column"}).tasks] == ["vibe"]
    assert by_song(load(tmp_path, TASKS, columns={"vibe": "My Column"}))["001.wav"]["vibe"] == 1
    with pytest.raises(
        ValueError, match="`columns` names 'my colum', which is no column of metadata.csv; did you mean 'my"
    ):
        load(tmp_path, TASKS, columns={"vibe": "my colum"})
    with pytest.raises(ValueError, match="the task 'vibes'; did you mean 'vibe'"):
        load(tmp_path, TASKS, columns={"vibes": "my column"})


# --- bad input -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda rows: [], "is empty"),
        (lambda rows: [{**row, "vibe": ""} for row in rows], "not one of the 6 rows of metadata.csv has a known label"),
        (
            lambda rows: [{"file_name": row["file_name"], "vibes": row["vibe"]} for row in rows],
            r"no column for any of the tasks vibe, emotion, tempo; its columns are file_name.*\{'vibe': 'vibes'\}",
        ),
        (
            lambda rows: [{"vibe": row["vibe"], "song": row["file_name"]} for row in rows],
            "has no column with audio or paths; its columns are vibe, song",
        ),
    ],
)
def test_a_table_that_lacks_something_is_refused_by_name(tmp_path, change, message):
    rows = change(songs_in(tmp_path, 6))
    write_csv(tmp_path / "metadata.csv", rows or [], **({} if rows else {"extrasaction": "ignore"}))
    with pytest.raises(ValueError, match=message):
        load(tmp_path, TASKS)


def test_numbers_of_labels_without_their_tasks_cannot_be_read(tmp_path):
    write_csv(tmp_path / "metadata.csv", songs_in(tmp_path))
    rows = load(tmp_path, [VIBE])["train"].remove_columns("vibe")
    assert [row["labels"] for row in load(rows, [VIBE])["train"]] == rows["labels"]
    with pytest.raises(ValueError, match="if it holds numbers of labels, pass the `tasks` they are of"):
        load(rows)


def test_no_column_of_labels_at_all_is_told_with_the_reasons(tmp_path):
    rows = [{"file_name": row["file_name"], "remark": f"take {n}"} for n, row in enumerate(songs_in(tmp_path, 6))]
    write_csv(tmp_path / "metadata.csv", rows)
    with pytest.raises(ValueError, match="the values of 'remark' hardly recur"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("file_name,vibe\na.wav,anger, joy\n", "row 1 of .* has 3 cells.*must stand in quotes"),
        ("file_name,vibe,vibe\n", "more than one column called 'vibe'"),
        ("file_name;vibe\na.wav;aggressive\n", None),
        ("\ufefffile_name\tvibe\r\na.wav\taggressive\r\n", None),
    ],
)
def test_a_csv_may_be_of_any_kind_but_not_crooked(tmp_path, text, message):
    tone(tmp_path / "a.wav", 0)
    (tmp_path / "metadata.csv").write_text(text, encoding="utf-8")
    if message is None:
        assert load(tmp_path, [VIBE])["train"][0]["labels"] == {"vibe": 0}
    else:
        with pytest.raises(ValueError, match=message):
            load(tmp_path, [VIBE])


def test_a_crooked_json_line_is_named(tmp_path):
    (tmp_path / "metadata.jsonl").write_text('{"file_name": "a.wav"}\n{"file_name"\n')
    with pytest.raises(ValueError, match="row 2 of .*metadata.jsonl is no JSON"):
        load(tmp_path, [VIBE])


def test_a_folder_of_nothing_says_what_it_holds(tmp_path):
    (tmp_path / "readme.txt").write_text("hello")
    with pytest.raises(ValueError, match="no audio in sub-folders; it holds readme.txt"):
        load(tmp_path)


def test_one_class_only_is_said(tmp_path):
    write_csv(tmp_path / "metadata.csv", [{**row, "vibe": "aggressive"} for row in songs_in(tmp_path, 4)])
    with pytest.warns(UserWarning, match="every training song with a known vibe is 'aggressive'"):
        load_labelled_audio(tmp_path, [VIBE], shares={"train": 1})


# --- broken files ----------------------------------------------------------------------------------------------------


def broken_rows(folder, num, num_broken):
    rows = songs_in(folder, num)
    (folder / "001.wav").write_text("this was never music")
    for row in rows[2 : 1 + num_broken]:
        (folder / row["file_name"]).unlink()
    write_csv(folder / "metadata.csv", rows)


def test_a_few_broken_files_are_counted_listed_and_left_out(tmp_path):
    broken_rows(tmp_path, 20, 2)
    with pytest.warns(UserWarning, match="2 of 20 recordings of .* cannot be read and are left out"):
        songs = load_labelled_audio(tmp_path, [VIBE], max_broken=0.1)
    assert [entry["song"] for entry in songs.report["broken"]] == ["001.wav", "002.wav"]
    assert "it is text, not audio" in songs.report["broken"][0]["error"]
    assert sum(songs.report["num_songs"].values()) == 18 and "2 broken recordings left out" in repr(songs)


def test_too_many_broken_files_are_fatal_and_the_first_are_named(tmp_path):
    broken_rows(tmp_path, 20, 8)
    with pytest.raises(ValueError) as refused:
        load(tmp_path, [VIBE], max_broken=0.1)
    message = str(refused.value)
    assert message.startswith("8 of 20 recordings") and "raise max_broken (now 0.1)" in message
    assert "001.wav" in message and "there is no such file" in message and "and 3 more" in message
    with pytest.raises(ValueError, match="8 of 20"):
        load(tmp_path, [VIBE])


def test_the_seconds_are_those_of_the_headers(tmp_path):
    rows = [{"file_name": tone(tmp_path / f"{n}.wav", n, 0.25).name, "vibe": VIBES[n]} for n in range(3)]
    write_csv(tmp_path / "metadata.csv", rows)
    assert load(tmp_path, [VIBE]).report["seconds"] == {"train": 0.75}


def test_no_url_is_fetched_and_no_file_outside_a_folder_or_saved_set_is_read(tmp_path):
    inside, outside = tmp_path / "given", tone(tmp_path / "secret.wav", 99)
    rows = songs_in(inside, 4)
    paths = ["../secret.wav", str(outside), "http://localhost:1/a.wav", "file:///etc/passwd"]
    rows += [{"file_name": path, "vibe": "aggressive"} for path in paths]
    write_csv(inside / "metadata.csv", rows)
    songs = load(inside, [VIBE], max_broken=0.5)
    assert songs.report["num_songs"] == {"train": 4}
    errors = [entry["error"] for entry in songs.report["broken"]]
    assert all("lies outside" in error for error in errors[:2]) and all("is a URL" in error for error in errors[2:])
    # The table named itself is its owner's.
    assert load(inside / "metadata.csv", [VIBE], max_broken=0.5).report["num_songs"] == {"train": 6}

    stored = Dataset(pa.table({"audio": [{"bytes": None, "path": str(outside)}], "vibe": ["aggressive"]}))
    stored = concatenate_datasets([stored, stored])
    stored.save_to_disk(tmp_path / "saved")
    with pytest.raises(ValueError, match="(?s)2 of 2 recordings.*lies outside"):
        load(tmp_path / "saved", [VIBE])


# --- splits ----------------------------------------------------------------------------------------------------------


def test_a_split_is_made_by_artist_in_the_wanted_shares_and_always_the_same(tmp_path):
    write_csv(tmp_path / "metadata.csv", songs_in(tmp_path, 40))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        songs = load_labelled_audio(tmp_path, [VIBE])
    assert songs.report["split"] == "by group" and songs.report["group_by"] == ["artist"]
    assert songs.report["num_songs"] == {"train": 32, "validation": 4, "test": 4}
    artists = [set(split["artist"]) for split in songs.values()]
    assert not artists[0] & artists[1] and not artists[0] & artists[2] and not artists[1] & artists[2]
    again, other = load_labelled_audio(tmp_path, [VIBE]), load_labelled_audio(tmp_path, [VIBE], seed=1)
    assert again["test"]["song"] == songs["test"]["song"] != other["test"]["song"]


def test_without_a_group_column_each_recording_is_its_own_group_and_it_is_said(tmp_path):
    rows = [{key: row[key] for key in ("file_name", "vibe")} for row in songs_in(tmp_path)]
    (tmp_path / "copy.wav").write_bytes((tmp_path / "003.wav").read_bytes())
    write_csv(tmp_path / "metadata.csv", [*rows, {"file_name": "copy.wav", "vibe": VIBES[0]}])
    with pytest.warns(UserWarning, match="each recording is a group of its own"):
        songs = load_labelled_audio(tmp_path, [VIBE])
    assert sum(songs.report["num_groups"].values()) == 20
    groups = by_song(songs, "group")
    assert groups["copy.wav"] == groups["003.wav"] == "song=003.wav"


def leaking(folder):
    rows = songs_in(folder, 12)
    for number, row in enumerate(rows):
        row["split"] = ["train"] * 3 + ["test"] if number < 4 else None
        row["split"] = "train" if number < 9 else "validation" if number < 10 else "test"
        row["artist"] = f"artist {number}"
    rows[10]["artist"] = "Artist 0 "  # an artist of the training data
    (folder / rows[11]["file_name"]).write_bytes((folder / "005.wav").read_bytes())  # another name, another artist
    return write_csv(folder / "metadata.csv", rows).parent


def test_a_leak_in_a_given_split_is_said_aloud(tmp_path):
    with pytest.warns(LeakWarning, match="4 songs of 2 groups stand in more than one of the given splits") as caught:
        songs = load_labelled_audio(leaking(tmp_path), [VIBE])
    assert "on_leak='drop'" in str(caught[0].message)
    assert songs.report["leaks"] == [
        {"group": "artist=artist 0", "splits": ["train", "test"], "num_songs": 2},
        {"group": "artist=artist 5", "splits": ["train", "test"], "num_songs": 2},
    ]
    assert "LEAK: 4 songs of 2 groups" in repr(songs)
    assert songs.report["num_songs"] == {"train": 9, "validation": 1, "test": 2}
    assert set(content_ids(songs["train"])) & set(content_ids(songs["test"]))


def test_a_leak_is_an_error_or_leaves_the_training_data_if_wished(tmp_path):
    leaking(tmp_path)
    with pytest.raises(ValueError, match="stand in more than one"):
        load_labelled_audio(tmp_path, [VIBE], on_leak="raise")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        songs = load_labelled_audio(tmp_path, [VIBE], on_leak="drop")
    assert songs.report["num_songs"] == {"train": 7, "validation": 1, "test": 2}
    assert songs.report["leaks"] == [] and [leak["num_songs"] for leak in songs.report["dropped"]] == [1, 1]
    assert not set(content_ids(songs["train"])) & set(content_ids(songs["test"]))
    assert not set(songs["train"]["group"]) & set(songs["test"]["group"])
    with pytest.raises(ValueError, match="`on_leak` is 'ignore'; allowed: warn, raise, drop"):
        load_labelled_audio(tmp_path, [VIBE], on_leak="ignore")


def test_a_given_split_that_holds_no_leak_is_silent(tmp_path):
    rows = [{**row, "split": "train" if n < 16 else "test"} for n, row in enumerate(songs_in(tmp_path))]
    write_csv(tmp_path / "metadata.csv", rows)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        songs = load_labelled_audio(tmp_path, [VIBE])
    assert songs.report["leaks"] == []
    # Validation data are cut from the training data, by artist.
    assert songs.report["num_songs"] == {"train": 14, "validation": 2, "test": 4}
    assert songs.report["split"] == "given, validation taken from train by group"
    assert not set(songs["train"]["artist"]) & set(songs["validation"]["artist"])
    assert load(tmp_path, [VIBE]).report["num_songs"] == {"train": 16, "test": 4}


def test_a_data_set_that_is_all_training_data_has_no_split_yet(tmp_path):
    songs = load_labelled_audio(DatasetDict(train=dataset(tmp_path, 20)))
    assert songs.report["split"] == "by group" and list(songs) == ["train", "validation", "test"]


def test_a_word_that_is_no_split_is_refused(tmp_path):
    rows = [{**row, "split": "train" if n else "fold 3"} for n, row in enumerate(songs_in(tmp_path, 4))]
    write_csv(tmp_path / "metadata.csv", rows)
    with pytest.raises(ValueError, match="row 1 of metadata.csv has the split 'fold 3'; allowed are train"):
        load(tmp_path, [VIBE])
    with pytest.raises(ValueError, match="'unlabelled' is neither training"):
        load(DatasetDict(train=dataset(tmp_path / "a", 2), unlabelled=dataset(tmp_path / "b", 2)))


def test_groups_are_of_the_columns_wished(tmp_path):
    rows = [{**row, "studio": f"studio {n % 5}"} for n, row in enumerate(songs_in(tmp_path))]
    write_csv(tmp_path / "metadata.csv", rows)
    songs = load_labelled_audio(tmp_path, [VIBE], group_by="studio")
    assert sum(songs.report["num_groups"].values()) == 5
    with pytest.raises(
        ValueError, match="`group_by` names 'studios', which is no column of metadata.csv; did you mean"
    ):
        load(tmp_path, [VIBE], group_by=["studios"])


# --- streams ---------------------------------------------------------------------------------------------------------


def stream(folder, num=40, broken=()):
    rows = [
        {"audio": str(tone(folder / f"{n}.wav", n)), "vibe": VIBES[n % 3], "artist": f"artist {n // 2}"}
        for n in range(num)
    ]
    for number in broken:
        (folder / f"{number}.wav").write_text("no music")

    def generate():
        yield from rows

    return IterableDataset.from_generator(generate)


def test_a_stream_is_encoded_as_it_comes_and_split_by_the_hash_of_its_groups(tmp_path):
    songs = load_labelled_audio(stream(tmp_path, broken=[7]), TASKS)
    rows = {split: list(rows) for split, rows in songs.items()}
    assert list(rows) == ["train", "validation", "test"]
    assert sorted(row["song"] for split in rows.values() for row in split) == sorted(
        str(tmp_path / f"{n}.wav") for n in range(40) if n != 7
    )
    groups = [{row["group"] for row in split} for split in rows.values()]
    assert not groups[0] & groups[1] and not groups[0] & groups[2] and not groups[1] & groups[2]
    assert len(rows["train"]) > 20
    row = rows["train"][0]
    assert row["labels"] == {"vibe": VIBES.index(row["vibe"]), "emotion": [-100.0] * 4, "tempo": -100}
    assert row["audio"] == {"path": row["song"], "bytes": None}
    assert list(songs["test"]) == rows["test"]
    assert "IterableLabelledAudio" in repr(songs) and songs.tasks[0]["name"] == "vibe"


def test_a_stream_of_class_labels_knows_its_tasks_and_any_other_must_be_told(tmp_path):
    songs = load_labelled_audio(dataset(tmp_path).to_iterable_dataset(), shares={"train": 1})
    assert [row["labels"]["genre"] for row in songs["train"]] == [0, 1] * 6
    with pytest.raises(ValueError, match="pass `tasks`"):
        load_labelled_audio(stream(tmp_path / "other"))


def test_a_wrong_label_in_a_stream_is_named_when_it_comes(tmp_path):
    task = {**VIBE, "labels": ["aggressive", "atmospheric"]}
    songs = load_labelled_audio(stream(tmp_path, 6), [task], shares={"test": 1})
    with pytest.raises(ValueError, match="row 3 of the stream .*'melancholic' is no label of the task 'vibe'"):
        list(songs["test"])


def test_rows_of_paths_and_bytes_become_a_dataset_without_torchcodec():
    code = (
        "import sys; sys.modules['torchcodec'] = None; import hf_mathrock;"
        "from datasets import Audio, Dataset, Features;"
        "rows = [{'audio': 'a.wav'}, {'audio': {'path': 'b.wav', 'bytes': b'RIFF'}}, {'audio': {'path': 'c.wav'}}];"
        "data = Dataset.from_list(rows, features=Features({'audio': Audio(decode=False)}));"
        "print([row['path'] for row in data['audio']], data[1]['audio']['bytes'])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.stdout.strip() == "['a.wav', 'b.wav', 'c.wav'] b'RIFF'", done.stderr[-2000:]


def test_a_split_that_is_not_there_is_named_with_those_that_are():
    rows = Dataset.from_dict({"a": [1]})
    songs = LabelledAudio({"train": rows, "test": rows}, [{"name": "x"}])
    with pytest.raises(KeyError, match="no split 'validation' in these data; there is train, test"):
        songs["validation"]  # as typed by somebody whose data have none
    assert "validation" not in songs and songs.get("validation") is None


def test_rows_made_of_a_split_still_know_what_their_labels_mean(tmp_path):
    songs = LabelledAudio({"train": Dataset.from_dict({"a": [1, 2, 3, 4]})}, [{"name": "x"}])
    rows = songs["train"]
    rows.save_to_disk(tmp_path / "saved")
    for made in (
        rows,
        rows.select([0, 2]),
        rows.map(lambda row: {"b": row["a"]}),
        rows.shuffle(seed=0),
        rows.filter(lambda row: row["a"] > 1),
        rows.train_test_split(0.5)["test"],
        load_from_disk(tmp_path / "saved"),
    ):
        assert noted_label_tasks(made) == [{"name": "x"}]
    assert noted_label_tasks(Dataset.from_dict({"a": [1]})) is None and noted_label_tasks([]) is None
