# SPDX-License-Identifier: Apache-2.0
"""Runs of embeddings: written part by part, taken up again, and never mixed."""

import json
import os
import shutil

import numpy as np
import pyarrow
import pytest
from pyarrow import parquet

from hf_mathrock.library import embedding_run
from hf_mathrock.library.embedding import (
    EmbeddingRun,
    MixedSpacesError,
    chunk_seconds_of,
    differences,
    embed_files,
    read_embeddings,
)

SPACE = {"model": "tiny", "fingerprint": "0123", "revision": None, "how": "whole", "config": {"slopes": "halving"}}
CHECKPOINT = {"name": "myna-tiny"}


def record(file, embedding=(1.0, 2.0), **changes):
    known = {"duration": 2.5, "sampling_rate": 8000, "mode": "whole", "quality": [], "artist": "Maps", "title": "Blue"}
    return {"file": str(file), "stamp": embedding_run.stamp_of(file), "embedding": embedding, **known, **changes}


@pytest.fixture(params=["run", "run.parquet"])
def path(request, tmp_path):
    return tmp_path / "runs" / request.param


@pytest.fixture
def songs(tmp_path):
    folder = tmp_path / "music"
    folder.mkdir()
    for name in ("a.mp3", "b.mp3", "c.mp3", "Ünï – コード.mp3"):
        (folder / name).write_bytes(name.encode())
    return sorted(folder.iterdir())


def write(path, records, space=SPACE, checkpoint=CHECKPOINT):
    with EmbeddingRun(path, space, checkpoint) as run:
        for entry in records:
            run.write(entry)


def test_what_is_written_is_read_back(path, songs):
    write(path, [record(song, (float(place), 0.5)) for place, song in enumerate(songs)])
    library = read_embeddings(path)
    assert library.files == [str(song) for song in songs] and len(library) == 4
    assert library.embeddings.dtype == np.float32
    assert library.embeddings.tolist() == [[0, 0.5], [1, 0.5], [2, 0.5], [3, 0.5]]
    assert library.space == SPACE and library.checkpoint == CHECKPOINT and library.left_out == {}
    assert library.facts[0] == {
        "duration": 2.5,
        "mode": "whole",
        "quality": [],
        "artist": "Maps",
        "album": None,
        "title": "Blue",
    }


def test_any_reader_of_parquet_finds_columns_and_space(path, songs):
    write(path, [record(songs[0])])
    file = path if path.is_file() else next(path.iterdir())
    table = parquet.read_table(file)
    names = ["file", "duration", "sampling_rate", "mode", "quality", "embedding", "error", "artist", "album", "title"]
    assert table.column_names == [*names, "stamp"]
    assert table.schema.field("embedding").type == pyarrow.list_(pyarrow.float32())
    assert json.loads(table.schema.metadata[b"hf_mathrock"])["space"] == SPACE
    assert table.column("error").null_count == 1


def test_paths_are_kept_relative_to_the_run_so_that_both_can_move(path, songs, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(path.relative_to(tmp_path), [record(os.path.relpath(songs[0]))], checkpoint={"folder": "models/tiny"})
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    for name in ("runs", "music"):
        shutil.move(name, elsewhere / name)
    library = read_embeddings(elsewhere / path.relative_to(tmp_path))
    assert library.files == [str(elsewhere / "music" / "a.mp3")]
    assert library.checkpoint == {"folder": str(elsewhere / "models" / "tiny")}
    assert str(tmp_path).encode() not in b"".join(
        file.read_bytes() for file in elsewhere.rglob("*.parquet")
    )  # whoever is given the run is not told where it was made


def test_a_run_is_taken_up_where_it_was_left(path, songs):
    write(path, [record(songs[0]), record(songs[1], None, error="it broke"), record(songs[2])])
    os.utime(songs[2], (1, 1))
    with EmbeddingRun(path, SPACE, CHECKPOINT) as run:
        # Done; failed, and so tried again; changed since; never seen.
        assert [run.holds(song) for song in songs] == [True, False, False, False]
        run.write(record(songs[1], (7.0, 7.0)))
        run.write(record(songs[2], (8.0, 8.0)))
    library = read_embeddings(path)
    found = dict(zip(library.files, library.embeddings.tolist(), strict=True))
    assert found == {str(songs[0]): [1, 2], str(songs[1]): [7, 7], str(songs[2]): [8, 8]} and not library.left_out


def test_a_run_that_ends_in_an_error_keeps_what_was_finished(path, songs):
    with pytest.raises(KeyboardInterrupt), EmbeddingRun(path, SPACE, CHECKPOINT) as run:
        run.write(record(songs[0]))
        raise KeyboardInterrupt
    assert read_embeddings(path).files == [str(songs[0])]


def test_a_run_that_is_killed_keeps_its_parts(path, songs, monkeypatch):
    monkeypatch.setattr(embedding_run, "_ROWS_OF_A_PART", 2)
    run = EmbeddingRun(path, SPACE, CHECKPOINT).__enter__()
    for song in songs[:3]:
        run.write(record(song))
    # Nothing closes it: two songs are on disk, one is lost.
    assert read_embeddings(path).files == [str(song) for song in songs[:2]]
    with EmbeddingRun(path, SPACE, CHECKPOINT) as again:
        assert [again.holds(song) for song in songs] == [True, True, False, False]
        again.write(record(songs[2]))
    assert len(read_embeddings(path)) == 3
    assert [file.name for file in path.parent.iterdir()] == [path.name]  # nothing is left lying about


def test_nothing_half_written_takes_the_name_of_a_run(path, songs, monkeypatch):
    write(path, [record(songs[0])])

    def fail(table, file, **options):
        file.write(b"PAR1 and no more")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(parquet, "write_table", fail)
    with pytest.raises(OSError, match="No space left"):
        write(path, [record(songs[1])])
    monkeypatch.undo()
    assert read_embeddings(path).files == [str(songs[0])]


def test_a_single_file_holds_each_song_once(songs, tmp_path):
    path = tmp_path / "run.parquet"
    for number in range(3):
        write(path, [record(songs[0], (float(number), 0.0))])
    assert parquet.read_table(path).num_rows == 1
    assert read_embeddings(path).embeddings.tolist() == [[2, 0]]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"fingerprint": "4567"}, r"fingerprint \('0123' and '4567'\)"),
        ({"how": "chunks", "chunk_seconds": 3.0}, r"chunk_seconds \(nothing and 3.0\), how \('whole' and 'chunks'\)"),
        ({"config": {"slopes": "canonical"}}, r"config.slopes \('halving' and 'canonical'\)"),
    ],
)
def test_another_space_is_refused_and_the_difference_named(path, songs, change, said):
    write(path, [record(songs[0])])
    with pytest.raises(MixedSpacesError, match=said):
        EmbeddingRun(path, {**SPACE, **change}, CHECKPOINT)
    other = path.with_name("other.parquet")
    write(other, [record(songs[1])], {**SPACE, **change})
    with pytest.raises(MixedSpacesError, match=said):
        read_embeddings(path, other)


def test_parts_of_different_spaces_in_one_folder_are_refused(songs, tmp_path):
    for name, fingerprint in (("one", "0123"), ("two", "4567")):
        write(tmp_path / name, [record(songs[0])], {**SPACE, "fingerprint": fingerprint})
    (part,) = (tmp_path / "two").iterdir()
    shutil.copy(part, tmp_path / "one" / "part-00009-ffffff.parquet")
    with pytest.raises(MixedSpacesError, match="fingerprint"):
        read_embeddings(tmp_path / "one")


def test_revisions_count_where_both_are_known_and_names_never():
    one, other = ({**SPACE, "revision": revision} for revision in ("abc", "def"))
    assert differences(one, other) == ["revision ('abc' and 'def')"]
    assert differences(one, SPACE) == [] == differences(SPACE, other)
    assert differences(SPACE, {**SPACE, "model": "renamed"}) == []
    assert differences({"chunk_seconds": 3}, {"chunk_seconds": 3.0}) == []


def test_runs_of_one_space_are_read_together_and_the_last_counts(songs, tmp_path):
    write(tmp_path / "one", [record(songs[0]), record(songs[1])])
    write(tmp_path / "two.parquet", [record(songs[1], (9.0, 9.0)), record(songs[2])])
    library = read_embeddings(tmp_path / "one", tmp_path / "two.parquet")
    assert library.files == [str(song) for song in songs[:3]] and library.embeddings[1].tolist() == [9, 9]


def test_nan_embeddings_are_left_out_with_a_warning_that_names_one(path, songs):
    write(path, [record(songs[0], (float("nan"), 1.0)), record(songs[1]), record(songs[2], (float("inf"), 1.0))])
    with pytest.warns(UserWarning, match=r"2 embedding\(s\) hold NaN or infinite.*a\.mp3"):
        library = read_embeddings(path)
    assert library.files == [str(songs[1])]
    assert set(library.left_out) == {str(songs[0]), str(songs[2])}


def test_silent_and_broken_songs_are_left_out_and_told(path, songs):
    silent = record(songs[0], None, mode=None, quality=["silent"])
    broken = {"file": str(songs[1]), "stamp": None, "error": "it is text"}
    write(path, [silent, broken, record(songs[2])])
    library = read_embeddings(path)
    assert library.files == [str(songs[2])]
    assert library.left_out[str(songs[1])] == "it is text" and "silent" in library.left_out[str(songs[0])]


def test_a_run_without_any_embedding_is_an_error_in_one_line(path, songs):
    write(path, [{"file": str(songs[0]), "stamp": None, "error": "it is text"}])
    with pytest.raises(ValueError, match="none of the 1 songs of this run has an embedding: it is text"):
        read_embeddings(path)


def test_where_there_is_no_run_the_error_says_how_to_write_one(tmp_path):
    (tmp_path / "empty").mkdir()
    for name in ("absent", "absent.parquet", "empty"):
        with pytest.raises(ValueError, match="no embeddings at .*hf-mathrock embed FOLDER --out"):
            read_embeddings(tmp_path / name)


def test_embeddings_of_two_sizes_are_refused(path, songs):
    write(path, [record(songs[0], (1.0, 2.0)), record(songs[1], (1.0, 2.0, 3.0))])
    with pytest.raises(MixedSpacesError, match="2 and 3 dimensions"):
        read_embeddings(path)


def test_damaged_and_foreign_parquet_is_named(path, songs):
    write(path, [record(songs[0])])
    file = path if path.is_file() else next(path.iterdir())
    whole = file.read_bytes()
    for content in (b"", whole[: len(whole) // 2], whole[:-20] + b"\0" * 16 + whole[-4:]):
        file.write_bytes(content)
        with pytest.raises(ValueError, match=f"{file.name} cannot be read as Parquet.*remove it"):
            read_embeddings(path)
        with pytest.raises(ValueError, match="remove it"):
            EmbeddingRun(path, SPACE, CHECKPOINT)
    parquet.write_table(pyarrow.table({"a": [1]}), file)
    with pytest.raises(ValueError, match="not written by `hf-mathrock embed`"):
        read_embeddings(path)


def test_a_run_of_a_later_version_is_refused(path, songs, monkeypatch):
    monkeypatch.setattr(embedding_run, "FORMAT", 2)
    write(path, [record(songs[0])])
    monkeypatch.undo()
    with pytest.raises(ValueError, match="a newer one"):
        read_embeddings(path)


def test_only_windows_that_overlap_are_left_to_the_extractor():
    assert chunk_seconds_of({"how": "whole"}) is None
    assert chunk_seconds_of({"how": "chunks", "chunk_seconds": 3.0}) == 3.0
    assert chunk_seconds_of({"chunk_seconds": 4.0, "hop_seconds": 4.0}) == 4.0
    assert chunk_seconds_of({"chunk_seconds": 10.0, "hop_seconds": 5.0}) is None


class Pipe:
    """Embeds by name, and breaks on a file called broken, taking with it whatever goes along."""

    def __init__(self):
        self.calls = []

    def __call__(self, inputs, **options):
        if isinstance(inputs, str):
            self.calls.append(inputs)
            return self.result(inputs)
        return self.stream(inputs)

    def stream(self, inputs):
        names = list(inputs)
        for first in range(0, len(names), 3):
            yield from [self.result(name) for name in names[first : first + 3]]

    def result(self, name):
        if "broken" in name:
            raise RuntimeError("out of memory")
        if "text" in name:
            return {"file": name, "error": f"cannot read {name}: it is text"}
        facts = {"duration": 1.0, "sampling_rate": 8000, "mode": "whole", "quality": []}
        return {"file": name, **facts, "embedding": [1.0]}


def test_a_file_that_breaks_the_model_is_the_only_one_lost():
    names = [f"{number}.mp3" for number in range(200)]
    names[1], names[4], names[150] = "broken.mp3", "text.mp3", "broken too.mp3"
    records = list(embed_files(Pipe(), names, batch_size=3))
    assert [entry["file"] for entry in records] == names
    errors = {place: entry["error"] for place, entry in enumerate(records) if "error" in entry}
    assert errors == {
        1: "RuntimeError: out of memory",
        4: "cannot read text.mp3: it is text",
        150: "RuntimeError: out of memory",
    }


def test_a_name_that_is_no_utf8_is_an_error_and_not_the_end(tmp_path):
    name = os.fsdecode(os.fsencode(str(tmp_path)) + b"/caf\xe9.mp3")
    records = list(embed_files(Pipe(), [name, "a.mp3"]))
    assert "no valid UTF-8; rename" in records[0]["error"] and records[1]["embedding"] == [1.0]
    write(tmp_path / "run", records)
    assert len(read_embeddings(tmp_path / "run")) == 1


def test_folders_tell_artist_and_album():
    (entry,) = embed_files(Pipe(), ["music/Maps/First/03 Blue.mp3"], folders=["music"])
    assert (entry["artist"], entry["album"], entry["title"]) == ("Maps", "First", "Blue")
