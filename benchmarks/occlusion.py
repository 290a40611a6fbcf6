# SPDX-License-Identifier: Apache-2.0
"""What should stand in for a stretch of music that is taken away? Measured where the evidence is known to lie.

    python benchmarks/occlusion.py --model MTT_musicnn song.mp3 other.mp3 ...

From pairs of songs two kinds of windows are made: *joined*, of half a window of each, and *planted*, of one with a
quarter of a window of the other in it, at the same loudness. The tag that the change moves most has its evidence in the
changed part (or, for a tag that falls, the evidence against it). For each baseline the table tells which share of the
evidence an occlusion finds there, and how often its strongest stretch lies there; a picture of chance would have the
share in brackets.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Callable, Sequence

import numpy as np

import hf_mathrock
from hf_mathrock.explanation.listening import Listener
from hf_mathrock.explanation.occlusion import occlude_stretches, stretches
from hf_mathrock.explanation.replacement import BASELINES
from hf_mathrock.models.audio_input import AudioWindow, open_audio, read_audio

SMALLEST_MOVE = 0.1  # of a probability
CHANCE = {"joined": 0.5, "planted, for": 0.25, "planted, against": 0.25}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("songs", nargs="+", help="audio files, at least two, each longer than the model's window")
    parser.add_argument("--model", required=True, help="folder or Hub name of a tagger")
    parser.add_argument("--pairs", type=int, default=30, help="windows of each kind to try")
    args = parser.parse_args()
    pipe: Callable = hf_mathrock.pipeline("music-tagging", model=args.model)
    found = measure(pipe, args.songs, args.pairs)
    print(f"{'where':18}{'baseline':14}{'cases':>6}{'share':>16}{'strongest there':>18}")
    for (kind, baseline), cases in sorted(found.items()):
        share, hit = np.nanmean(np.array(cases), axis=0)
        print(f"{kind:18}{baseline:14}{len(cases):6}{share:10.2f} ({CHANCE[kind]:.2f}){hit:18.2f}")


def measure(pipe, files: Sequence[str], num_pairs: int) -> dict[tuple[str, str], list[tuple[float, bool]]]:
    """Share of the evidence and whether the strongest stretch is in the right place, by kind and baseline."""
    extractor = pipe.feature_extractor
    seconds, rate = extractor.window_seconds, max(extractor.sampling_rates)
    listen = Listener(pipe, batch_size=16)
    songs = [read_audio(file, rate) for file in files]
    times = stretches(0.0, seconds, seconds / 10, seconds / 20)
    found: dict[tuple[str, str], list[tuple[float, bool]]] = defaultdict(list)
    rng = np.random.default_rng(0)
    length = round(seconds * rate)

    def window(samples: np.ndarray) -> AudioWindow:
        with open_audio({"array": samples, "sampling_rate": rate}) as source:
            return next(extractor.windows(source))

    def judge(kind: str, heard: AudioWindow, tag: int, sign: int, start: float, end: float) -> None:
        inside = np.clip(np.minimum(times[:, 1], end) - np.maximum(times[:, 0], start), 0, None)
        inside /= times[:, 1] - times[:, 0]
        for baseline in BASELINES:
            values = sign * occlude_stretches(listen, [heard], times, baseline)[0][tag]
            evidence = np.maximum(values, 0)
            share = float((evidence * inside).sum() / evidence.sum()) if evidence.any() else float("nan")
            found[kind, baseline].append((share, bool(start <= times[values.argmax()].mean() <= end)))

    for _ in range(num_pairs):
        host, guest = (_excerpt(songs[place], length, rng) for place in rng.choice(len(songs), 2, replace=False))
        guest = guest * (_loudness(host) / _loudness(guest))
        alone = listen([window(host), window(guest)])
        half = length // 2
        joined = window(np.concatenate([host[:half], guest[half:]]))
        said = listen([joined])[0]
        move = alone[0] - alone[1]
        for tag, start in ((int(move.argmax()), 0.0), (int(move.argmin()), seconds / 2)):
            if said[tag] >= SMALLEST_MOVE:
                judge("joined", joined, tag, 1, start, start + seconds / 2)
        start = rng.uniform(0.1, 0.65) * seconds
        place = slice(round(start * rate), round((start + seconds / 4) * rate))
        planted = host.copy()
        planted[place] = guest[place]
        mixed = window(planted)
        move = listen([mixed])[0] - alone[0]
        for kind, tag, sign in (("for", int(move.argmax()), 1), ("against", int(move.argmin()), -1)):
            if sign * move[tag] >= SMALLEST_MOVE:
                judge(f"planted, {kind}", mixed, tag, sign, start, start + seconds / 4)
    return found


def _excerpt(song: np.ndarray, length: int, rng: np.random.Generator) -> np.ndarray:
    if len(song) < length:
        raise SystemExit("a song is shorter than the model's window; give longer ones")
    start = int(rng.integers(0, len(song) - length + 1))
    return song[start : start + length]


def _loudness(samples: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(samples)))) + 1e-4


if __name__ == "__main__":
    main()
