# SPDX-License-Identifier: Apache-2.0
"""Generated pieces as tracks that need no file."""

from __future__ import annotations

import json

import numpy as np
import pytest

from hf_mathrock.data.forms import form_tracks
from hf_mathrock.data.mel_cache import write_mel_cache
from hf_mathrock.data.tracks import audio_stamp
from hf_mathrock.synthesis.forms import facts_of_form, plan_form


def test_takes_of_a_work_follow_each_other_with_the_facts_of_each() -> None:
    tracks = form_tracks(4, seed=6, takes=3, seconds=48.0)
    assert len({track.id for track in tracks}) == len(tracks) == 12
    for number, track in enumerate(tracks):
        plan = plan_form(6 + number // 3, seconds=48.0, take=number % 3)
        assert track.work == plan.work_id
        assert track.facts == facts_of_form(plan)
        assert json.loads(json.dumps(track.facts)) == track.facts
    assert len({track.work for track in tracks}) == 4


def test_ranges_of_seeds_that_are_apart_share_no_work_and_no_audio() -> None:
    first, second = form_tracks(6, seed=0), form_tracks(6, seed=6)
    assert not {track.work for track in first} & {track.work for track in second}
    stamps = {audio_stamp(track.audio) for track in (*first, *second)}
    assert len(stamps) == 12
    assert audio_stamp(form_tracks(1, seed=0)[0].audio) in stamps
    assert audio_stamp(form_tracks(1, seed=0, seconds=100.0)[0].audio) not in stamps


def test_a_mel_cache_is_filled_without_files(tmp_path) -> None:
    from tiny_myna import tiny_myna_extractor

    extractor = tiny_myna_extractor()
    tracks = form_tracks(1, seed=1, takes=2, seconds=32.0, sampling_rate=extractor.sampling_rate)
    cache = write_mel_cache(tmp_path / "mel", tracks, extractor, num_workers=0)
    assert [cache[index].facts for index in range(2)] == [track.facts for track in tracks]
    expected = extractor.decibels(tracks[1].audio())
    np.testing.assert_allclose(cache[1].decibels.astype(np.float32), expected, atol=0.07)
    assert not cache.silent.any()


def test_there_must_be_something_to_make() -> None:
    for arguments in ({"num": 0}, {"num": 1, "takes": 0}):
        with pytest.raises(ValueError, match="at least one work"):
            form_tracks(**arguments)
