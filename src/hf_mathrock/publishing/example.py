# SPDX-License-Identifier: Apache-2.0
"""The clip that goes with a published model, so that anybody can check what it says."""

from __future__ import annotations

import shutil
from pathlib import Path

MAX_BYTES = 1_000_000
# A piece that no model is trained on; a clip of somebody's song could not be passed on.
SEED, VIBE, BPM, SECONDS = 5_000_338, "atmospheric", 104.0, 20.0
_RATE, _BLOCK = 44_100, 1 << 16


def write_example(folder: Path, clip: str | Path | None = None) -> Path:
    """Put an example into a folder.

    Args:
        folder: Gets `example` with the clip's ending.
        clip: A recording of at most 1 MB; `None`: a generated piece of 20 s.

    Raises:
        FileNotFoundError: There is no such clip.
        ValueError: It is too large.
    """
    if clip is None:
        return _generated(folder / "example.ogg")
    clip = Path(clip)
    if not clip.is_file():
        raise FileNotFoundError(f"There is no example clip {str(clip)!r}.")
    if (size := clip.stat().st_size) > MAX_BYTES:
        raise ValueError(
            f"The example clip {clip.name} has {size / 1e6:.1f} MB; at most {MAX_BYTES / 1e6:g} MB go into a "
            "repository. Cut out some 20 seconds, and be sure that they may be passed on."
        )
    return Path(shutil.copyfile(clip, folder / f"example{clip.suffix.lower()}"))


def _generated(path: Path) -> Path:
    import numpy as np
    import soundfile

    from hf_mathrock.synthesis.composer import compose
    from hf_mathrock.synthesis.renderer import render

    audio = render(compose(SEED, seconds=SECONDS, vibe=VIBE, bpm=BPM), sampling_rate=_RATE).T
    # libsndfile's Vorbis encoder overruns its stack on one long write.
    with soundfile.SoundFile(path, "w", _RATE, 2, format="OGG", subtype="VORBIS", compression_level=0.8) as file:
        for block in np.array_split(audio, len(audio) // _BLOCK + 1):
            file.write(block)
    return path
