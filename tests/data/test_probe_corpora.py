# SPDX-License-Identifier: Apache-2.0
"""GTZAN, GiantSteps and EmoMusic in the splits that encoders are compared on."""

from __future__ import annotations

import builtins
import hashlib

import pytest

from fake_corpora import text
from fake_probe_corpora import GTZAN_LISTS, emomusic, giantsteps, gtzan, tone
from hf_mathrock.data.corpora import corpus_rows
from hf_mathrock.data.emomusic import emomusic_rows
from hf_mathrock.data.giantsteps import giantsteps_rows
from hf_mathrock.data.gtzan import PUBLISHED, gtzan_rows


def by_split(corpus, column):
    return {split: [row[column] for row in corpus.rows if row["split"] == split] for split in PUBLISHED}


# --- GTZAN ------------------------------------------------------------------------------------------------------------


def test_gtzan_is_divided_by_its_three_lists(tmp_path):
    corpus = gtzan_rows(gtzan(tmp_path, seconds=0.02))
    assert {split: len(genres) for split, genres in by_split(corpus, "genre").items()} == {
        "train": 18,
        "validation": 6,
        "test": 6,
    }
    assert by_split(corpus, "song")["test"][0] == "genres/blues/blues.00008.wav"
    assert all(row["song"].split("/")[1] == row["genre"] for row in corpus.rows)


def test_without_lists_gtzan_takes_those_of_torchaudio(tmp_path):
    lists = pytest.importorskip("torchaudio.datasets.gtzan")
    for name in (lists.filtered_train[0], lists.filtered_valid[0], lists.filtered_test[0]):
        tone(tmp_path / name.partition(".")[0] / f"{name}.wav", 0, 0.02)
    assert [row["split"] for row in gtzan_rows(tmp_path).rows] == ["train", "validation", "test"]
    lengths = [len(of) for of in (lists.filtered_train, lists.filtered_valid, lists.filtered_test)]
    assert lengths == [443, 197, 290] == list(PUBLISHED.values())


def test_without_any_lists_gtzan_is_refused(tmp_path, monkeypatch):
    gtzan(tmp_path, seconds=0.02)
    (tmp_path / GTZAN_LISTS["test"]).unlink()
    imported = builtins.__import__

    def without_torchaudio(name, *args, **kwargs):
        if name.startswith("torchaudio"):
            raise ImportError(name)
        return imported(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without_torchaudio)
    with pytest.raises(ValueError, match=r"test_filtered\.txt is not in .*coreyker/dnn-mgr.*torchaudio brings them"):
        gtzan_rows(tmp_path)


def test_lists_and_folders_that_are_not_gtzans_are_refused(tmp_path):
    gtzan(tmp_path, seconds=0.02)
    (tmp_path / "genres").rename(tmp_path / "elsewhere")
    for path in (tmp_path / "elsewhere").rglob("*.wav"):
        path.rename(path.with_name(path.name.replace(".", "-", 1)))
    with pytest.raises(ValueError, match=r"holds none of the 30 clips of the split, such as blues\.00000\.wav"):
        gtzan_rows(tmp_path)
    gtzan(tmp_path, seconds=0.02)
    tone(tmp_path / "more" / "blues.00001.wav", 0, 0.02)
    with pytest.raises(ValueError, match=r"are both blues\.00001"):
        gtzan_rows(tmp_path)
    (tmp_path / "more" / "blues.00001.wav").unlink()
    text(tmp_path / GTZAN_LISTS["test"], "blues/blues.00000.wav\n")
    with pytest.raises(ValueError, match="stands in two places"):
        gtzan_rows(tmp_path)


# --- GiantSteps -------------------------------------------------------------------------------------------------------


def artists():
    """Three names for training and one for validation, by the published hash."""
    train, validation = [], []
    for number in range(1000):
        name = f"Artist {number}"
        place = int(hashlib.sha1(name.lower().encode()).hexdigest(), 16) % 116
        (train if place < 100 else validation).append(name)
    return train[:3], validation[0]


def test_giantsteps_keeps_sure_single_keys_and_no_artist_on_two_sides(tmp_path):
    corpus = giantsteps_rows(giantsteps(tmp_path, *artists(), seconds=0.02))
    assert by_split(corpus, "song_id") == {
        "train": ["5061", "5881"],
        # Who has played with an artist of the validation set, and who with them.
        "validation": ["7217", "10359", "10981"],
        "test": ["1234749", "1725800", "3687442"],
    }
    keys = {row["song_id"]: row["key"] for row in corpus.rows}
    assert keys["5061"] == "Eb minor" and keys["3687442"] == "F# minor" and keys["1234749"] == "Bb major"
    assert corpus.rows[3]["artist"] == [artists()[1], artists()[0][2]]


def test_giantsteps_is_a_corpus_to_train_on_as_well(tmp_path):
    corpus = corpus_rows("giantsteps", giantsteps(tmp_path, *artists(), seconds=0.02))
    (task,) = corpus.tasks
    assert task["name"] == "key" and len(task["labels"]) == 24
    assert {row["key"] for row in corpus.rows} <= set(task["labels"])


@pytest.mark.parametrize(
    ("missing", "message"),
    [
        ("giantsteps-mtg-key-dataset-master/annotations/annotations.txt", "annotations.txt is missing"),
        ("giantsteps-mtg-key-dataset-master/annotations/beatport_metadata.txt", "beatport_metadata.txt is missing"),
        ("giantsteps-key-dataset", "there is no `giantsteps-key-dataset/annotations/`"),
        ("giantsteps-key-dataset/annotations/key", "holds no key files"),
    ],
)
def test_a_part_of_giantsteps_is_refused(tmp_path, missing, message):
    giantsteps(tmp_path, *artists(), seconds=0.02)
    (tmp_path / missing).rename(tmp_path / "away")
    with pytest.raises(ValueError, match=message):
        giantsteps_rows(tmp_path)


# --- EmoMusic ---------------------------------------------------------------------------------------------------------


def test_emomusic_takes_its_test_set_from_mediaeval_and_divides_the_rest_by_artist(tmp_path):
    corpus = emomusic_rows(emomusic(tmp_path, num_songs=60, seconds=0.02))
    songs = by_split(corpus, "song_id")
    assert songs["test"] == [str(song) for song in range(2, 62) if song % 3 == 0]
    assert len(songs["train"]) + len(songs["validation"]) == 40
    # "Artist No. 7" counts as "artist no": without digits and signs.
    digest = int(hashlib.sha1(b"artist no").hexdigest(), 16) % 10
    assert songs["train" if digest < 8 else "validation"] and not songs["validation" if digest < 8 else "train"]
    assert (corpus.rows[0]["arousal"], corpus.rows[0]["valence"]) == (1.5, 8.75)
    assert corpus.rows[0]["artist"] == "Artist No. 2"


def test_other_tables_than_emomusics_are_refused(tmp_path):
    emomusic(tmp_path, seconds=0.02)
    text(tmp_path / "songs_info.csv", "song_id,Artist\n2,x\n")
    with pytest.raises(ValueError, match="has no column 'Mediaeval 2013 set'"):
        emomusic_rows(tmp_path)
    text(tmp_path / "songs_info.csv", "song_id,Artist,Mediaeval 2013 set\n999,x,development\n")
    with pytest.raises(ValueError, match=r"static_annotations\.csv has no song 999"):
        emomusic_rows(tmp_path)
    (tmp_path / "annotations" / "static_annotations.csv").unlink()
    with pytest.raises(ValueError, match="static_annotations.csv is not in"):
        emomusic_rows(tmp_path)
