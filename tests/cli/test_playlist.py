# SPDX-License-Identifier: Apache-2.0
"""`hf-mathrock playlist`: on made-up embeddings, and with a tiny encoder for songs that are not in the run."""

import json
import shutil

import numpy as np
import pytest
import soundfile

from hf_mathrock.library.embedding import EmbeddingRun
from hf_mathrock.library.embedding_run import stamp_of
from hf_mathrock.library.playlist_files import read_playlist

SPACE = {"model": "tiny", "fingerprint": "0123", "revision": None, "how": "whole", "config": {}, "extractor": {}}


def write(path, embeddings, folder, space=SPACE, artists=None, checkpoint=None):
    """A run of files that hold nothing but their names."""
    folder.mkdir(exist_ok=True)
    with EmbeddingRun(path, space, checkpoint or {"name": "nowhere-tiny"}) as run:
        for number, embedding in enumerate(embeddings):
            file = folder / f"{number}.mp3"
            file.write_text(file.name)
            artist = artists[number] if artists else f"Band {number}"
            facts = {"duration": 100.0 + number, "sampling_rate": 8000, "mode": "whole", "quality": []}
            facts |= {"artist": artist, "title": f"Song {number}", "stamp": stamp_of(file)}
            run.write({"file": str(file), "embedding": list(map(float, embedding)), **facts})
    return path


@pytest.fixture
def library(tmp_path):
    """Sixty songs of four dimensions; the first ten are one kind, the next ten another, the rest anything."""
    rng = np.random.default_rng(0)
    points = rng.normal(size=(60, 4))
    points[:10] = [3, 0, 0, 0] + 0.3 * rng.normal(size=(10, 4))
    points[10:20] = [0, 3, 0, 0] + 0.3 * rng.normal(size=(10, 4))
    return write(tmp_path / "run", points, tmp_path / "music")


@pytest.fixture
def song(tmp_path):
    return lambda number: str(tmp_path / "music" / f"{number}.mp3")


def test_a_playlist_is_filled_from_among_its_songs(command, library, song, tmp_path):
    out = tmp_path / "list.m3u8"
    like = [song(number) for number in range(6)]
    code, table, err = command("playlist", "--like", *like, "--from", library, "--num", 4, "--out", out)
    assert code == 0 and err == f"wrote {out}: 4 new song(s) and 6 given\n"
    files = read_playlist(out)
    assert files[:6] == like and sorted(files[6:]) == [song(number) for number in (6, 7, 8, 9)]
    assert "#EXTINF:106,Band 6 - Song 6" in out.read_text()
    assert table.splitlines()[0].split() == ["song", "like", "percentile"]
    assert "Band 6 - Song 6" in table and "% Band" in table


def test_json_is_one_line_per_new_song(command, library, song, tmp_path):
    arguments = ["--like", song(0), song(1), song(2), "--from", library, "--num", 3, "--out", tmp_path / "list.xspf"]
    code, out, _ = command("playlist", *arguments, "--json", "--only-new")
    records = [json.loads(line) for line in out.splitlines()]
    assert code == 0 and len(records) == 3
    assert read_playlist(tmp_path / "list.xspf") == [record["file"] for record in records]
    for record in records:
        assert 0 <= record["percentile"] <= 100 and record["distance"] >= 0
        assert sum(entry["share"] for entry in record["because"]) == pytest.approx(1, abs=0.03)
        assert {entry["file"] for entry in record["because"]} <= {song(0), song(1), song(2)}


def test_a_bridge_leads_from_one_kind_to_the_other(command, library, song, tmp_path):
    out = tmp_path / "list.m3u8"
    like, to = [song(number) for number in (0, 1, 2)], [song(number) for number in (10, 11, 12)]
    arguments = ["--from", library, "--num", 5, "--out", out, "--picture", tmp_path / "pictures" / "hull.png"]
    code, table, _ = command("playlist", "--like", *like, "--to", *to, *arguments, "--explain")
    assert code == 0 and "on the way" in table and "17 %" in table and "83 %" in table
    files = read_playlist(out)
    assert files[:3] == like and files[-3:] == to and len(files) == 11
    assert files[3] in map(song, range(3, 10)) and files[-4] in map(song, range(13, 20))
    assert (tmp_path / "pictures" / "hull.png").read_bytes().startswith(b"\x89PNG")


def test_expanding_goes_beyond_the_playlist(command, library, song, tmp_path):
    like = [song(number) for number in range(20, 40)]
    arguments = ["--from", library, "--num", 5, "--out", tmp_path / "list.m3u8", "--reach", 1.5, "--json"]
    code, out, _ = command("playlist", "--like", *like, *arguments, "--mode", "expand")
    within = [record for record in map(json.loads, out.splitlines()) if record["within"]]
    assert code == 0 and within and all(1 <= record["gauge"] <= 1.5 for record in within)


def test_songs_may_be_named_by_playlists_and_folders(command, library, song, tmp_path):
    (tmp_path / "mine.m3u8").write_text("music/0.mp3\nmusic/1.mp3\n")
    arguments = ["--from", library, "--num", 2, "--out", tmp_path / "list.m3u8"]
    assert command("playlist", "--like", tmp_path / "mine.m3u8", *arguments)[0] == 0
    assert read_playlist(tmp_path / "list.m3u8")[:2] == [song(0), song(1)]
    code, _, err = command("playlist", "--like", tmp_path / "music", *arguments)
    assert code == 1 and "no song of" in err.splitlines()[-1] and "embed more music" in err.splitlines()[-1]


def test_a_playlist_of_one_song_is_filled_with_the_nearest(command, library, song, tmp_path):
    for mode in ("fill", "expand"):
        code, table, err = command(
            "playlist", "--like", song(0), "--from", library, "--num", 5, "--out", tmp_path / "l.m3u8", "--mode", mode
        )
        assert code == 0 and "warning: " in err and "one song" in err
        assert len(read_playlist(tmp_path / "l.m3u8")) == 6 and "100 % Band 0 - Song 0" in table and "nan" not in table
    code, out, _ = command("playlist", "--like", song(0), "--from", library, "--out", tmp_path / "l.m3u8", "--json")
    assert json.loads(out.splitlines()[0])["percentile"] is None and code == 0


def test_songs_named_more_than_once_count_once(command, library, song, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "link.mp3").symlink_to(song(0))
    like = [song(0), "music/0.mp3", "link.mp3", song(1)]
    code, _, err = command("playlist", "--like", *like, "--from", library, "--num", 2, "--out", "list.m3u8")
    assert code == 0 and err.splitlines()[0] == "note: 2 song(s) were named more than once and count once"
    assert read_playlist("list.m3u8")[:2] == [song(0), song(1)]


def test_copies_of_one_song_are_a_playlist_and_copies_of_it_are_not_chosen(command, tmp_path, song):
    rng = np.random.default_rng(1)
    points = rng.normal(size=(30, 4))
    points[1:5] = points[0]
    run = write(tmp_path / "run", points, tmp_path / "music")
    code, _, _ = command(
        "playlist", "--like", song(0), song(1), song(2), "--from", run, "--num", 9, "--out", tmp_path / "list.m3u8"
    )
    chosen = read_playlist(tmp_path / "list.m3u8")[3:]
    assert code == 0 and len(chosen) == 9 and not {song(3), song(4)} & set(chosen)


def test_an_artist_comes_once_unless_asked(command, tmp_path, song):
    points = np.random.default_rng(2).normal(size=(12, 3))
    artists = ["Maps", "maps ", "MAPS"] * 2 + ["Various Artists"] * 6
    run = write(tmp_path / "run", points, tmp_path / "music", artists=artists)
    arguments = ["--like", song(6), song(7), "--from", run, "--num", 10, "--out", tmp_path / "list.m3u8", "--only-new"]
    code, _, err = command("playlist", *arguments)
    assert code == 0 and len(read_playlist(tmp_path / "list.m3u8")) == 5 and "5 songs instead of 10" in err
    command("playlist", *arguments, "--max-per-artist", 9)
    assert len(read_playlist(tmp_path / "list.m3u8")) == 10


def test_songs_that_moved_are_left_out_and_told(command, library, song, tmp_path):
    for number in range(6, 60):
        if number % 2:
            (tmp_path / "music" / f"{number}.mp3").unlink()
    like = [song(number) for number in range(6)]
    arguments = ["--like", *like, "--from", library, "--num", 4, "--out", tmp_path / "list.m3u8"]
    code, _, err = command("playlist", *arguments)
    assert code == 0 and "27 song(s) of the run are no longer where they were" in err
    assert {song(6), song(8)} < set(read_playlist(tmp_path / "list.m3u8"))
    (tmp_path / "music" / "0.mp3").unlink()
    code, _, _ = command("playlist", *arguments)
    listed = read_playlist(tmp_path / "list.m3u8")
    assert code == 0 and song(0) not in listed and song(1) in listed and len(listed) == 5 + 4
    shutil.move(tmp_path / "music", tmp_path / "moved")
    code, _, err = command("playlist", *arguments)
    assert code == 1 and "none of the 60 songs of the run is where it was" in err and len(err.splitlines()) == 1


def test_a_library_of_songs_all_alike_is_an_error_in_one_line(command, tmp_path, song):
    run = write(tmp_path / "run", np.ones((5, 3)), tmp_path / "music")
    code, _, err = command("playlist", "--like", song(0), "--from", run, "--out", tmp_path / "list.m3u8")
    assert code == 1 and "songs are all alike" in err and not (tmp_path / "list.m3u8").exists()
    run = write(tmp_path / "single", np.ones((1, 3)), tmp_path / "music")
    code, _, err = command("playlist", "--like", song(0), "--from", run, "--out", tmp_path / "list.m3u8")
    assert code == 1 and len(err.splitlines()) == 1 and "defect" not in err


def test_nan_embeddings_are_passed_over_with_a_warning(command, tmp_path, song):
    points = np.random.default_rng(3).normal(size=(20, 3))
    points[7, 1] = np.nan
    run = write(tmp_path / "run", points, tmp_path / "music")
    arguments = ["--from", run, "--num", 18, "--out", tmp_path / "list.m3u8"]
    code, _, err = command("playlist", "--like", song(0), song(1), *arguments)
    assert code == 0 and "warning: 1 embedding(s) hold NaN" in err
    assert song(7) not in read_playlist(tmp_path / "list.m3u8")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"fingerprint": "4567"}, "fingerprint ('0123' and '4567')"),
        ({"extractor": {"top_db": 60.0}}, "extractor.top_db (nothing and 60.0)"),
    ],
)
def test_runs_of_different_spaces_are_refused(command, library, song, tmp_path, change, said):
    other = write(tmp_path / "other.parquet", np.ones((3, 4)), tmp_path / "more", {**SPACE, **change})
    arguments = ["--from", library, other, "--out", tmp_path / "list.m3u8"]
    code, _, err = command("playlist", "--like", song(0), *arguments)
    assert code == 1 and said in err and len(err.splitlines()) == 1


def test_different_revisions_are_refused(command, song, tmp_path):
    runs = [
        write(tmp_path / name, np.eye(4), tmp_path / "music", {**SPACE, "revision": name}) for name in ("one", "two")
    ]
    code, _, err = command("playlist", "--like", song(0), "--from", *runs, "--out", tmp_path / "list.m3u8")
    assert code == 1 and "revision ('one' and 'two')" in err


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--out", "list.pls"], 2, "'list.pls' does not say what kind of playlist it is"),
        (["--mode", "bridge"], 2, "--mode bridge leads from --like to --to"),
        (["--to", "0.mp3", "--mode", "fill"], 2, "--mode bridge leads from --like to --to"),
        (["--reach", "2"], 2, "--reach belongs to --mode expand"),
        (["--mode", "expand", "--diversity", "0.5"], 2, "--diversity belongs to --mode fill"),
        (["--mode", "expand", "--reach", "0.5"], 1, "s is 0.5; to go beyond a playlist it must be above 1"),
        (["--like", "nowhere.mp3"], 2, "nowhere.mp3 is neither a file here nor has it an embedding in the run"),
        (["--from", "nowhere"], 1, "there are no embeddings at nowhere"),
    ],
)
def test_a_wrong_command_line_is_one_line(command, library, song, tmp_path, monkeypatch, arguments, code, said):
    monkeypatch.chdir(tmp_path)
    usual = ["--like", song(0), song(1), song(2), "--from", library, "--out", "list.m3u8"]
    got, out, err = command("playlist", *usual, *arguments)
    assert (got, out) == (code, "") and said in err and len(err.splitlines()) == 1
    assert not (tmp_path / "list.m3u8").exists()


def noise(path, seed, seconds=2.0):
    path.parent.mkdir(exist_ok=True)
    soundfile.write(path, 0.1 * np.random.default_rng(seed).standard_normal(round(16_000 * seconds)), 16_000)
    return path


@pytest.fixture(scope="module")
def heard(tmp_path_factory):
    """A run that a tiny encoder wrote, beside the encoder."""
    from hf_mathrock.cli.main import main
    from tiny_myna import tiny_myna, tiny_myna_extractor

    folder = tmp_path_factory.mktemp("heard")
    tiny_myna().save_pretrained(folder / "model")
    tiny_myna_extractor().save_pretrained(folder / "model")
    for number in range(8):
        noise(folder / "music" / f"{number}.wav", number)
    arguments = ["embed", folder / "music", "--model", folder / "model", "--out", folder / "run.parquet"]
    assert main([str(argument) for argument in arguments]) == 0
    return folder


def test_a_song_that_is_not_in_the_run_is_embedded_by_its_model(command, heard, tmp_path):
    copy = tmp_path / "copy.wav"
    shutil.copy(heard / "music" / "3.wav", copy)
    arguments = ["--from", heard / "run.parquet", "--num", 3, "--out", tmp_path / "list.m3u8", "--json"]
    code, out, err = command("playlist", "--like", copy, heard / "music" / "4.wav", *arguments)
    assert code == 0 and "error" not in err
    assert read_playlist(tmp_path / "list.m3u8")[0] == str(copy)
    # It is heard to be what the run holds under another name, which is therefore not chosen.
    assert str(heard / "music" / "3.wav") not in {json.loads(line)["file"] for line in out.splitlines()}


def test_songs_that_say_nothing_are_told_and_the_others_used(command, heard, tmp_path):
    soundfile.write(tmp_path / "silence.wav", np.zeros(16_000), 16_000)
    (tmp_path / "text.mp3").write_text("words, nothing but words, and no music at all")
    patch = noise(tmp_path / "patch.wav", 5, seconds=0.02)
    arguments = ["--from", heard / "run.parquet", "--num", 3, "--out", tmp_path / "list.m3u8"]
    bad = [tmp_path / "silence.wav", tmp_path / "text.mp3"]
    code, _, err = command("playlist", "--like", *bad, patch, heard / "music" / "4.wav", *arguments)
    assert code == 1 and "silence.wav is silent and says nothing; it is left out" in err and "it is text" in err
    assert read_playlist(tmp_path / "list.m3u8")[:2] == [str(patch), str(heard / "music" / "4.wav")]
    (tmp_path / "list.m3u8").unlink()
    code, _, err = command("playlist", "--like", *bad, *arguments)
    assert code == 1 and err.splitlines()[-1] == "error: none of the songs of --like can be used; give others"
    assert not (tmp_path / "list.m3u8").exists()


def test_a_model_that_is_gone_or_another_is_refused(command, heard, tmp_path):
    from tiny_myna import tiny_myna, tiny_myna_extractor

    folder = tmp_path / "moved"
    shutil.copytree(heard, folder)
    new = noise(tmp_path / "new.wav", 77)
    arguments = ["--like", new, "--from", folder / "run.parquet", "--num", 2, "--out", tmp_path / "list.m3u8"]
    assert command("playlist", *arguments)[0] == 0  # both were moved, and are found
    shutil.move(folder / "model", folder / "elsewhere")
    code, _, err = command("playlist", *arguments)
    assert code == 2 and "is not where it was" in err and "--model" in err and len(err.splitlines()) == 1
    assert command("playlist", *arguments, "--model", folder / "elsewhere")[0] == 0
    tiny_myna(seed=1).save_pretrained(folder / "model")
    tiny_myna_extractor().save_pretrained(folder / "model")
    code, _, err = command("playlist", *arguments)
    assert code == 2 and "is no longer the model that embedded it: they differ in fingerprint (" in err
    assert len(err.splitlines()) == 1


def test_a_model_that_only_the_hub_could_give_is_named(command, library, tmp_path):
    new = noise(tmp_path / "new.wav", 77)
    code, _, err = command("playlist", "--like", new, "--from", library, "--out", tmp_path / "list.m3u8")
    assert code == 2 and "new.wav is not in the run and has to be embedded, but" in err and "nowhere-tiny" in err
    assert len(err.splitlines()) == 1
