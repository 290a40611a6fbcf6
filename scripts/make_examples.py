# SPDX-License-Identifier: Apache-2.0
"""Writes the example clips of `examples/audio`: generated pieces, one of each vibe, of seeds no model is trained on."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import soundfile

from hf_mathrock.synthesis.composer import compose
from hf_mathrock.synthesis.renderer import render

FOLDER = Path(__file__).resolve().parents[1] / "examples" / "audio"
SECONDS, RATE, BLOCK = 24.0, 44_100, 1 << 16
# Name of the clip, seed, vibe and BPM.
CLIPS = (
    ("tapping-in-seven", 5_000_292, "technical", 128.0),
    ("slow-goodbye", 5_000_385, "melancholic", 76.0),
    ("breakdown", 5_000_080, "aggressive", 168.0),
    ("long-exposure", 5_000_338, "atmospheric", 104.0),
)


def main() -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    facts = {}
    for name, seed, vibe, bpm in CLIPS:
        piece = compose(seed, seconds=SECONDS, vibe=vibe, bpm=bpm)
        audio = render(piece, sampling_rate=RATE).T
        path = FOLDER / f"{name}.ogg"
        # libsndfile's Vorbis encoder overruns its stack on one long write.
        with soundfile.SoundFile(path, "w", RATE, 2, format="OGG", subtype="VORBIS", compression_level=0.8) as file:
            for block in np.array_split(audio, len(audio) // BLOCK + 1):
                file.write(block)
        facts[path.name] = {
            "seed": seed,
            "bpm": piece.bpm,
            "meters": sorted({"/".join(map(str, bar.meter)) for bar in piece.bars}),
            "sections": [
                {
                    "start": round(part.start, 2),
                    "end": round(part.end, 2),
                    "emotion": part.labels.emotions,
                    "vibe": part.labels.vibe,
                    "intensity": part.labels.intensity,
                    "tempo": part.labels.tempo,
                }
                for part in piece.sections
            ],
        }
        print(f"{path.name}: {path.stat().st_size / 1000:.0f} kB, {facts[path.name]['meters']}")
    (FOLDER / "labels.json").write_text(json.dumps(facts, indent=1) + "\n")


if __name__ == "__main__":
    main()
