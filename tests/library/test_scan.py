# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
import sys

import pytest

from hf_mathrock.library.scan import scan


@pytest.fixture
def music(tmp_path):
    names = [
        "take 10.mp3",
        "take 2.mp3",
        "Take 1.WAV",
        "cover.jpg",
        "._take 2.mp3",
        "b/1.flac",
        "a/2.m4a",
        ".trash/old.mp3",
    ]
    for name in names:
        path = tmp_path / "music" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return tmp_path / "music"


def relative(found, folder):
    return [str(path.relative_to(folder)) for path in found.files]


def test_a_folder_gives_its_audio_in_the_order_people_count(music):
    found = scan([music])
    assert relative(found, music) == ["a/2.m4a", "b/1.flac", "Take 1.WAV", "take 2.mp3", "take 10.mp3"]
    assert not found.errors


def test_arguments_keep_their_order_and_a_file_is_taken_once(music):
    found = scan([music / "take 10.mp3", music / "b", music, music / "take 2.mp3"])
    assert relative(found, music)[:3] == ["take 10.mp3", "b/1.flac", "a/2.m4a"]
    assert len(found.files) == 5


def test_a_named_file_is_taken_whatever_it_is_called_and_whether_or_not_it_exists(music):
    named = [music / "cover.jpg", music / "absent.mp3"]
    assert scan(named).files == named


def test_links_in_a_folder_are_not_followed(music, tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "far.mp3").touch()
    (music / "linked folder").symlink_to(outside)
    (music / "linked.mp3").symlink_to(outside / "far.mp3")
    (music / "round").symlink_to(music)
    assert len(scan([music]).files) == 5


def test_a_link_that_is_named_is_followed(music, tmp_path):
    (tmp_path / "here").symlink_to(music)
    assert len(scan([tmp_path / "here"]).files) == 5


def test_a_folder_without_audio_is_an_error_that_names_it_and_the_others_go_on(music, tmp_path):
    empty = tmp_path / "empty"
    empty.mkdir()
    (empty / "linked.mp3").symlink_to(music / "take 2.mp3")
    found = scan([empty, music])
    assert len(found.files) == 5
    assert list(found.errors) == [empty]
    assert "no audio" in found.errors[empty] and "1 symbolic link" in found.errors[empty]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no pipes in folders")
def test_no_file_is_opened(music):
    # Opening a pipe without a writer would wait for ever.
    os.mkfifo(music / "pipe.wav")
    assert "pipe.wav" not in relative(scan([music]), music)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may list every folder")
def test_a_folder_that_cannot_be_listed_is_an_error(music):
    (music / "a").chmod(0)
    try:
        found = scan([music])
    finally:
        (music / "a").chmod(0o755)
    assert list(found.errors) == [music / "a"] and len(found.files) == 4
