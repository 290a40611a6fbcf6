from functools import partial

import numpy as np
import pytest
import soundfile

import fake_corpora
from hf_mathrock.data.tracks import audio_stamp, tracks_in_folder, tracks_of_mtg_jamendo
from noise_tracks import noise


def write(path, **tags):
    path.parent.mkdir(parents=True, exist_ok=True)
    with soundfile.SoundFile(path, "w", 16_000, 1) as file:
        for name, value in tags.items():
            setattr(file, name, value)
        file.write(np.full(800, 0.1))
    return path


def said(tracks):
    return [(track.id, track.artist, track.album) for track in tracks]


def test_artist_and_album_are_the_folders_of_a_track(tmp_path):
    for name in ("toe/the book/2.wav", "toe/the book/10.wav", "mixes/x.wav", "a/b/c/d.wav", "loose.wav"):
        write(tmp_path / name)
    assert said(tracks_in_folder(tmp_path)) == [
        ("a/b/c/d.wav", "b", "c"),
        ("loose.wav", None, None),
        ("mixes/x.wav", None, "mixes"),
        ("toe/the book/2.wav", "toe", "the book"),
        ("toe/the book/10.wav", "toe", "the book"),
    ]


def test_a_file_knows_better_than_its_folders(tmp_path):
    write(tmp_path / "various" / "hits" / "01 x.flac", artist="toe", title="goodbye")
    write(tmp_path / "various" / "hits" / "02 y.ogg", artist=" ", album="another")
    tracks = tracks_in_folder(tmp_path)
    assert said(tracks) == [("various/hits/01 x.flac", "toe", "hits"), ("various/hits/02 y.ogg", "various", "another")]
    folder = {"folder": "various/hits"}
    assert [track.facts for track in tracks] == [{"title": "goodbye", **folder}, {"title": "y", **folder}]


def test_files_and_several_folders_are_told_apart_by_their_paths(tmp_path):
    first, second = (write(tmp_path / name / "1.wav") for name in ("a", "b"))
    assert [track.id for track in tracks_in_folder([tmp_path / "b", first])] == [str(second), str(first)]
    assert [track.id for track in tracks_in_folder(str(first))] == [str(first)]


def test_what_cannot_be_opened_is_a_track_all_the_same(tmp_path):
    (tmp_path / "broken.mp3").write_bytes(b"no music")
    assert said(tracks_in_folder(tmp_path)) == [("broken.mp3", None, None)]


def test_a_folder_without_audio_is_said_to_have_none(tmp_path):
    (tmp_path / "cover.jpg").touch()
    with pytest.raises(ValueError, match="no audio in this folder"):
        tracks_in_folder(tmp_path)


def test_mtg_jamendo_knows_its_artists_and_its_split(tmp_path):
    fake_corpora.jamendo(tmp_path, subset="top50tags", split=1)
    with pytest.warns(UserWarning, match="not comparable"):
        tracks = tracks_of_mtg_jamendo(tmp_path, split=1)
    assert said(tracks)[0] == ("48/948.mp3", "artist_000087", "album_000149")
    assert [track.facts["split"] for track in tracks] == ["train", "train", "validation", "test"]
    assert tracks[0].facts["duration"] == 212.7 and str(tracks[0].audio).endswith("audio/48/948.mp3")


def test_a_stamp_changes_with_the_audio_and_with_nothing_else(tmp_path):
    path = write(tmp_path / "a.wav")
    before = audio_stamp(path)
    assert audio_stamp(str(path)) == before
    write(path, artist="somebody")
    assert audio_stamp(path) != before
    assert audio_stamp(partial(noise, 1)) == audio_stamp(partial(noise, 1)) != audio_stamp(partial(noise, 2))
    samples = np.ones(10, np.float32)
    assert audio_stamp(samples) == audio_stamp(samples.copy()) != audio_stamp(samples * 2)
    assert audio_stamp(tmp_path / "gone.wav") == "missing" and audio_stamp("x\0.wav") == "missing"
    assert audio_stamp(object()) == "unreadable"
