# SPDX-License-Identifier: Apache-2.0
"""The published MTT_musicnn on two songs joined in the middle: the evidence must lie in the right one."""

from __future__ import annotations

import numpy as np
import pytest

import hf_mathrock
from hf_mathrock.conversion.musicnn import convert_musicnn
from hf_mathrock.explanation import explain
from hf_mathrock.models.audio_input import read_audio

RATE = 16_000
ELECTRONIC, ACOUSTIC = "joram-solipsism-30s.mp3", "TRWJAZW128F42760DD.mp3"


@pytest.fixture(scope="module")
def musicnn(real_audio, tmp_path_factory):
    source = real_audio.parent / "reference" / "musicnn" / "MTT_musicnn.safetensors"
    if not source.is_file():
        pytest.skip("the reference weights of ../shared/reference/musicnn are not here")
    folder = tmp_path_factory.mktemp("models") / "MTT_musicnn"
    convert_musicnn(source, folder)
    return hf_mathrock.pipeline("music-tagging", model=str(folder))


@pytest.fixture(scope="module")
def joined(real_audio):
    """The first half of an electronic piece, then the first half of one for guitar and piano."""
    songs = [read_audio(real_audio / name, RATE)[: 15 * RATE] for name in (ELECTRONIC, ACOUSTIC)]
    return {"array": np.concatenate(songs), "sampling_rate": RATE}


def test_in_a_window_over_the_join_each_tag_has_its_evidence_on_its_own_side(musicnn, joined):
    found = explain(musicnn, joined, ["techno", "electronic", "synth", "piano"], start=13.5, step=0.1)
    assert (found.start, round(found.end, 2), found.settings["width"]) == (13.5, 16.49, 0.3)
    for tag in ("techno", "electronic", "synth"):
        assert found.share_between(tag, 13.5, 15.0) > 0.9
    assert found.share_between("piano", 15.0, 16.5) > 0.8


def test_over_both_songs_each_tag_has_its_evidence_in_its_own_song(musicnn, joined):
    middle = {**joined, "array": joined["array"][9 * RATE : 21 * RATE]}
    found = explain(musicnn, middle, ["techno", "guitar"], whole=True, step=0.3)
    assert found.share_between("techno", 0.0, 6.0) > 0.95
    assert found.share_between("guitar", 6.0, 12.0) > 0.85


def test_the_window_that_is_explained_lies_in_the_song_of_the_tag(musicnn, joined):
    assert explain(musicnn, joined, "techno", step=0.3).end < 15.0
    assert explain(musicnn, joined, "guitar", step=0.3).start > 14.0
