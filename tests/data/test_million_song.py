# SPDX-License-Identifier: Apache-2.0
"""The Million Song Dataset from tiny copies in the published formats, and pickles that must not run."""

from __future__ import annotations

import contextlib
import pickle
from pathlib import Path

import numpy as np
import pytest

from fake_corpora import TAGS, TEST, TRAIN, VALIDATION, by_track, cals, conventional, list_pickle, vectors_pickle
from hf_mathrock import load_labelled_audio
from hf_mathrock.data import million_song
from hf_mathrock.data.corpora import corpus_rows
from hf_mathrock.data.million_song import CALS_TAGS, UNREADABLE
from hf_mathrock.data.pickled_values import read_npy, read_pickle


@pytest.fixture(autouse=True)
def few_published(monkeypatch):
    """As if these were all songs that are published."""
    counts = {"train": len(TRAIN), "validation": len(VALIDATION), "test": len(TEST)}
    monkeypatch.setattr(million_song, "PUBLISHED", {"conventional": counts, "cals": counts})


def test_fifty_four_previews_are_known_to_be_unreadable():
    assert len(UNREADABLE) == 54


def test_the_cals_tags_are_fifty_of_their_own():
    assert len(set(CALS_TAGS)) == 50
    assert {"hardcore", "metalcore", "christian", "progressive metal"} < set(CALS_TAGS)


@pytest.mark.parametrize("place", ["", "MSD_split", "split/msd"])
def test_the_conventional_split_is_cut_from_the_published_lists(tmp_path, place):
    corpus = corpus_rows("million-song", conventional(tmp_path, place))
    assert [(row["song"], row["split"], row["tag"]) for row in corpus.rows] == [
        ("TRAAAAW128F429D538", "train", ["rock", "Mellow"]),
        ("TRAAABD128F429CF47", "train", ["happy"]),
        ("TRAADIN128F931D672", "validation", ["rock", "alternative"]),
        ("TRAADQW128F427CE68", "test", ["Hip-Hop"]),
        ("TRAADRX12903D0EFE8", "test", ["rock"]),
    ]
    assert corpus.rows[0]["audio"] == str(tmp_path / "audio/A/A/A/TRAAAAW128F429D538.mp3")
    assert corpus.notes == [] and corpus.broken == []


def test_the_order_of_tags_is_that_of_musicnn(tmp_path):
    path = Path(__file__).parents[3] / "shared/reference/musicnn/golden.npz"
    if not path.is_file():
        pytest.skip("the reference ../shared/reference/musicnn is not here")
    (task,) = corpus_rows("million-song", conventional(tmp_path)).tasks
    with np.load(path) as golden:
        assert task["labels"] == golden["tags_MSD"].tolist()


@pytest.mark.parametrize("as_objects", [False, True])
def test_the_cals_split_has_other_songs_and_other_tags(tmp_path, as_objects):
    corpus = corpus_rows("million-song:split=cals", cals(tmp_path, as_objects=as_objects))
    assert corpus.tasks[0]["labels"] == list(CALS_TAGS)
    assert [(row["song"], row["split"], row["tag"]) for row in corpus.rows][1:4] == [
        ("TRAAABD128F429CF47", "train", ["progressive metal"]),
        ("TRAIISZ128F42684BB", "train", ["pop"]),  # unreadable is what the conventional split calls so
        ("TRAADIN128F931D672", "validation", ["rock", "indie"]),
    ]


def test_previews_are_found_by_the_number_7digital_gave_them(tmp_path):
    numbers = {track: str(8_947_470 + n) for n, track in enumerate(TAGS)}
    paths = {number: f"{number[0]}/{number[1]}/{number}.clip.mp3" for number in numbers.values()}
    conventional(tmp_path, naming=lambda track: paths[numbers[track]], place_of_audio="")
    with pytest.raises(ValueError, match="none of the 5 audio files"):
        corpus_rows("million-song", tmp_path)
    with pytest.raises(ValueError, match=r"MSD_id_to_7D_id.pkl is missing"):
        corpus_rows("million-song", tmp_path, files="7digital")
    (tmp_path / "MSD_id_to_7D_id.pkl").write_bytes(pickle.dumps(numbers, 2))
    (tmp_path / "7D_id_to_path.pkl").write_bytes(pickle.dumps(paths, 0))
    for options in ({}, {"files": "7digital"}):
        corpus = corpus_rows("million-song", tmp_path, **options)
        assert corpus.rows[0]["audio"] == str(tmp_path / "8/9/8947470.clip.mp3")
        assert len(corpus.rows) == 5 and corpus.notes == []


def test_a_map_that_is_none_is_refused_by_name(tmp_path):
    conventional(tmp_path)
    (tmp_path / "MSD_id_to_7D_id.pkl").write_bytes(pickle.dumps(dict.fromkeys(TAGS, "1"), 2))
    (tmp_path / "7D_id_to_path.pkl").write_bytes(pickle.dumps(["8/9/8947470.clip.mp3"], 2))
    with pytest.raises(ValueError, match=r"7D_id_to_path.pkl holds a list; a dict is expected"):
        corpus_rows("million-song", tmp_path, files="7digital")


def test_a_map_that_leads_out_of_the_folder_is_refused(tmp_path):
    conventional(tmp_path)
    (tmp_path / "MSD_id_to_7D_id.pkl").write_bytes(pickle.dumps(dict.fromkeys(TAGS, "1"), 2))
    (tmp_path / "7D_id_to_path.pkl").write_bytes(pickle.dumps({"1": "../../secret.mp3"}, 2))
    with pytest.raises(ValueError, match="lies outside"):
        corpus_rows("million-song", tmp_path, files="7digital")


def test_what_is_missing_is_said_and_how_the_folder_should_look(tmp_path):
    with pytest.raises(ValueError, match=r"filtered_list_train.cP is missing. The folder should hold"):
        corpus_rows("million-song", tmp_path)
    with pytest.raises(ValueError, match=r"train_ids.npy is missing. The folder should hold"):
        corpus_rows("million-song:split=cals", tmp_path)
    conventional(tmp_path)
    (tmp_path / "audio" / by_track(TEST[0])).unlink()
    with pytest.warns(UserWarning, match="1 of 5 audio files are not in .*TRAADQW128F427CE68"):
        assert len(corpus_rows("million-song", tmp_path).rows) == 4
    with pytest.raises(ValueError, match="there is no split 'lee' of million-song; there are conventional, cals"):
        corpus_rows("million-song:split=lee", tmp_path)


def test_other_counts_than_published_are_said(tmp_path, monkeypatch):
    conventional(tmp_path)
    monkeypatch.setitem(million_song.PUBLISHED["conventional"], "test", 28_435)
    with pytest.warns(UserWarning, match="test has 2 songs, published are 28,435"):
        corpus_rows("million-song", tmp_path)
    monkeypatch.setitem(million_song.PUBLISHED["conventional"], "train", 201_680)
    with pytest.raises(ValueError, match="names 4 songs; its first 201,680 are training data"):
        corpus_rows("million-song", tmp_path)


def test_a_song_without_tags_in_the_files_is_listed_as_broken(tmp_path):
    conventional(tmp_path)
    (tmp_path / "msd_id_to_tag_vector.cP").write_bytes(
        vectors_pickle({track: tags for track, tags in TAGS.items() if track != TEST[1]})
    )
    with pytest.warns(UserWarning, match="test has 1 songs"):
        corpus = corpus_rows("million-song", tmp_path)
    assert corpus.broken == [{"song": TEST[1], "error": "msd_id_to_tag_vector.cP has no tags of it"}]


def test_files_that_were_changed_are_refused(tmp_path):
    conventional(tmp_path)
    (tmp_path / "50tagList.txt").write_text("pop\nrock\n")
    with pytest.raises(ValueError, match="lists other tags"):
        corpus_rows("million-song", tmp_path)
    (tmp_path / "50tagList.txt").unlink()
    (tmp_path / "msd_id_to_tag_vector.cP").write_bytes(vectors_pickle(TAGS, num_tags=40))
    with pytest.raises(ValueError, match="50 zeros and ones expected"):
        corpus_rows("million-song", tmp_path)
    (tmp_path / "filtered_list_test.cP").write_bytes(list_pickle(["../../etc/passwd"]))
    with pytest.raises(ValueError, match="they are called like 'TRAAAAW128F429D538'"):
        corpus_rows("million-song", tmp_path)


def test_artists_on_both_sides_are_heard_of_where_the_list_of_tracks_is_there(tmp_path):
    conventional(tmp_path)
    artists = dict(zip(TAGS, ["Ada", "Bo", "Cy", "Ada", "Di", "Ada"], strict=True))
    lines = [f"{track}<SEP>SOABCDE12AB0182193<SEP>{artist}<SEP>A song" for track, artist in artists.items()]
    (tmp_path / "unique_tracks.txt").write_text("\n".join(lines) + "\n", "utf-8")
    rows = corpus_rows("million-song", tmp_path).rows
    assert [(row["artist"], row["title"]) for row in rows][:2] == [("Ada", "A song"), ("Bo", "A song")]
    with pytest.warns(UserWarning, match="Ada"):
        songs = load_labelled_audio(tmp_path, corpus="million-song")
    assert {name: len(split) for name, split in songs.items()} == {"train": 2, "validation": 1, "test": 2}
    assert songs.report["split"] == "given"


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_arrays_of_any_format_of_pickle_are_read(tmp_path, protocol):
    values = {"a": np.arange(6.0).reshape(2, 3), "b": np.array([[True], [False]]), "c": np.array(["x", "yz"])}
    path = tmp_path / "values.pkl"
    path.write_bytes(pickle.dumps(values, protocol))
    found = read_pickle(path)
    assert list(found) == ["a", "b", "c"]
    for name, value in values.items():
        np.testing.assert_array_equal(found[name], value)


class _Runs:
    def __init__(self, call, *arguments):
        self.made = call, arguments

    def __reduce__(self):
        return self.made


@pytest.mark.parametrize("protocol", [0, 2, 5])
def test_a_pickle_that_calls_something_is_refused_and_does_not_run(tmp_path, protocol):
    import os

    trace, path = tmp_path / "ran", tmp_path / "list.cP"
    path.write_bytes(pickle.dumps([_Runs(os.mkdir, str(trace))], protocol))
    with pytest.raises(ValueError, match=r"it names posix.mkdir|it names nt.mkdir"):
        read_pickle(path)
    np.save(tmp_path / "objects.npy", np.array([_Runs(os.mkdir, str(trace))], object), allow_pickle=True)
    with pytest.raises(ValueError, match="it names"):
        read_npy(tmp_path / "objects.npy")
    assert not trace.exists()


@pytest.mark.parametrize(
    "content",
    [b"", b"no pickle", b"(lp1\nS'TRAAAAW128F429D538'\n", pickle.dumps({1, 2}), b"cbuiltins\neval\n(S'1'\ntR."],
)
def test_damaged_and_other_pickles_are_refused_by_name(tmp_path, content):
    path = tmp_path / "list.cP"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"list.cP cannot be read as lists, dicts and arrays"):
        read_pickle(path)


def test_a_small_pickle_cannot_fill_the_memory(tmp_path):
    path, many = tmp_path / "list.cP", ["TRAAAAW128F429D538"]
    for _ in range(60):
        many = [many, many]
    path.write_bytes(pickle.dumps(many, 2))
    with pytest.raises(ValueError, match="names the same values over and over"):
        read_pickle(path)
    path.write_bytes(b"\x80\x05\x96" + (2**34).to_bytes(8, "little") + b".")  # a bytearray of 16 GiB, not there
    with pytest.raises(ValueError, match=r"list.cP cannot be read"):
        read_pickle(path)
    path.write_bytes(b"\x80\x02]r\xff\xff\xff\x7f.")  # an empty list, remembered as the two thousand millionth value
    with _memory_of(2**32):
        assert read_pickle(path) == []


@contextlib.contextmanager
def _memory_of(num_bytes):
    resource = pytest.importorskip("resource", reason="this system limits no memory")
    before = resource.getrlimit(resource.RLIMIT_AS)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + num_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def test_arrays_in_arrays_of_objects_are_read_too(tmp_path):
    objects = np.empty(2, object)
    objects[:] = ["TRAAAAW128F429D538", np.array([1, 0])]
    (tmp_path / "list.cP").write_bytes(pickle.dumps(objects, 2))
    name, vector = read_pickle(tmp_path / "list.cP")
    assert name == "TRAAAAW128F429D538" and vector.tolist() == [1, 0]


@pytest.mark.parametrize("kind", ["no array", "empty", "several", "cut off", "absurd"])
def test_what_is_no_npy_file_is_refused_by_name(tmp_path, kind):
    path = tmp_path / "train_ids.npy"
    with path.open("wb") as stream:
        np.savez(stream, a=np.arange(3)) if kind == "several" else np.save(stream, np.arange(100.0))
    content = path.read_bytes()
    path.write_bytes(
        {
            "no array": b"TRAAAAW128F429D538",
            "empty": b"",
            "several": content,
            "cut off": content[:-9],
            "absurd": content.replace(b"(100,), }" + b" " * 12, b"(" + b"9" * 15 + b",), }"),
        }[kind]
    )
    with pytest.raises(ValueError, match=r"train_ids.npy is no array in NumPy's format"):
        read_npy(path)


def test_an_array_whose_bytes_do_not_fill_it_is_refused(tmp_path):
    path = tmp_path / "vectors.cP"
    path.write_bytes(vectors_pickle(TAGS).replace(b"(I50\n", b"(I5000000\n"))
    with pytest.raises(ValueError, match="cannot be read"):
        read_pickle(path)
