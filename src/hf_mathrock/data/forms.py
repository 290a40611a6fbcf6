# SPDX-License-Identifier: Apache-2.0
"""Generated long pieces as tracks: audio that is rendered when it is read, and labels known exactly."""

from __future__ import annotations

from collections.abc import Sequence

from hf_mathrock.data.tracks import Track
from hf_mathrock.synthesis.forms import FORMS, Design, FormAudio, facts_of_form


def form_tracks(
    num: int,
    seed: int = 0,
    *,
    takes: int = 1,
    seconds: float = 96.0,
    design: Design | None = None,
    forms: Sequence[str] = FORMS,
    sampling_rate: int = 16_000,
) -> list[Track]:
    """Works of consecutive seeds, each in one or more takes; the takes of a work follow each other.

    Runs whose seed ranges are apart share no work. `work` names the work, `facts` is what `facts_of_form` gives, and
    `audio` a `FormAudio`: called, it renders mono float32 at `sampling_rate`, on one core 150 to 250 times as fast as
    it plays.

    Args:
        num: Works.
        seed: Seed of the first.
        takes: Performances of each, the first of them take 0.
        seconds: Wished length of a piece, 32 to 3600.
        design: What the sections vary; `None`: a third of the works each.
        forms: Forms of design `form`.
        sampling_rate: Hz; that of the extractor which will read them.

    Raises:
        ValueError: An argument is out of range.
    """
    if num < 1 or takes < 1:
        raise ValueError(f"num is {num} and takes is {takes}; there must be at least one work in one take.")
    tracks = []
    for work in range(seed, seed + num):
        for take in range(takes):
            audio = FormAudio(work, seconds, take, design, tuple(forms), sampling_rate)
            plan = audio.plan()
            tracks.append(Track(f"{plan.work_id}-{take}", audio, work=plan.work_id, facts=facts_of_form(plan)))
    return tracks
