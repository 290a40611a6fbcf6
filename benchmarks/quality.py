# SPDX-License-Identifier: Apache-2.0
"""Measures the embedded checkpoint anew and holds it against its published figures (`make benchmark-quality`).

    python benchmarks/quality.py [--calibrate] [--write] [--num 400] [--checkpoint DIR] [--audio FOLDER]

Pieces of seeds never trained on, by our renderer and by FluidSynth (Debian: fluidsynth and fluid-soundfont-gm), and
real recordings with the tempo that two beat trackers agree on. About seven minutes on two cores. Seeds and weights are
the published ones, so figures differ only by the arithmetic of another machine: more than `TOLERANCE` is an error.
`--write` publishes what was measured: `results.json` and the card. `--calibrate` fits temperatures and thresholds
before, on pieces that no set contains.
"""

from __future__ import annotations

import argparse
import json
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import transformers

import hf_mathrock
from hf_mathrock import embedded_checkpoint
from hf_mathrock.evaluation.calibrating import CalibrationRun, calibration_record, write_calibrated
from hf_mathrock.evaluation.calibration import calibrate
from hf_mathrock.evaluation.generated import Protocol, evaluate_generated, predict_generated
from hf_mathrock.evaluation.labelled import describe_data
from hf_mathrock.evaluation.results import add_sets, identity
from hf_mathrock.model_card import write_card
from hf_mathrock.synthesis.affect import tempo_class
from hf_mathrock.synthesis.soundfont import find_soundfont

ROOT = Path(__file__).resolve().parents[1]
AGREEMENT = 0.04  # two trackers agree when they are within 4 % of each other, as in the tempo literature
TOLERANCE = 0.01
CALIBRATION = Protocol(400, seed=2_500_000)
TITLES = {
    "unseen_seeds": "generated pieces of unseen seeds",
    "unseen_renderer": "generated pieces through a renderer never trained on (FluidSynth)",
    "whole_pieces": "unseen generated pieces of 30 s with changing sections",
}


def real_tempi(folder: Path) -> dict[str, dict[str, float]]:
    """BPM of every recording by two beat trackers: librosa's and, where it is installed, Essentia's."""
    import librosa
    import soundfile

    tempi: dict[str, dict[str, float]] = {}
    for file in sorted(path for path in folder.iterdir() if path.suffix in (".mp3", ".wav", ".flac", ".ogg")):
        audio, rate = soundfile.read(file, dtype="float32", always_2d=True)
        mono = librosa.resample(audio.mean(axis=1), orig_sr=rate, target_sr=44_100, res_type="soxr_hq")
        tempi[file.name] = {"librosa": float(np.atleast_1d(librosa.beat.beat_track(y=mono, sr=44_100)[0])[0])}
        try:
            import essentia.standard
        except ImportError:
            continue
        tracker = essentia.standard.RhythmExtractor2013(method="multifeature")
        tempi[file.name]["essentia"] = float(tracker(mono)[0])
    return tempi


def evaluate_recordings(pipe: Any, folder: Path, tempi: dict[str, dict[str, float]]) -> list[dict[str, Any]]:
    """What the model says of every recording, beside the tempo class the trackers agree on (`None`: they do not)."""
    rows = []
    for name, by_tracker in tempi.items():
        result = pipe(str(folder / name))
        values = sorted(by_tracker.values())
        agree = len(values) == 2 and values[1] / values[0] - 1 <= AGREEMENT
        row = {
            "file": name,
            "trackers_bpm": {tracker: round(value, 1) for tracker, value in by_tracker.items()},
            "tempo_agreed": tempo_class(float(np.mean(values))) if agree else None,
        }
        for task in pipe.model.config.task_names:
            row[task] = {entry["label"]: round(entry["score"], 3) for entry in result[task][:3]}
        rows.append(row)
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--checkpoint", type=Path, default=embedded_checkpoint())
    parser.add_argument("--num", type=int, default=400, help="pieces of each set")
    parser.add_argument("--resamples", type=int, default=1000, help="of the bootstrap behind the intervals")
    parser.add_argument("--audio", type=Path, default=ROOT.parent / "shared" / "audio", help="real recordings")
    parser.add_argument("--tempi", type=Path, help="JSON of BPM by file and tracker, instead of running the trackers")
    parser.add_argument("--calibrate", action="store_true", help="fit temperatures and thresholds before")
    parser.add_argument("--write", action="store_true", help="publish what was measured")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    transformers.utils.logging.disable_progress_bar()
    pipe = load(args.checkpoint)
    if args.calibrate:
        calibrate_on_generated(pipe, args.checkpoint, Protocol(args.num, seed=3_000_000))
        pipe = load(args.checkpoint)

    protocols = {
        "unseen_seeds": Protocol(args.num, seed=3_000_000),
        "unseen_renderer": Protocol(args.num, seed=3_500_000, renderer="soundfont"),
        "whole_pieces": Protocol(max(1, args.num // 2), seed=4_000_000, seconds=30.0),
    }
    header = identity(pipe)
    sets: dict[str, Any] = {}
    for name, protocol in protocols.items():
        if protocol.renderer == "soundfont":
            if (soundfont := find_soundfont()) is None:
                print(f"{name} left out: no SoundFont found (Debian: fluidsynth, fluid-soundfont-gm)", file=sys.stderr)
                continue
            header["soundfont"] = soundfont.name
        sets[name] = evaluate_generated(
            pipe,
            protocol,
            title=TITLES[name],
            num_resamples=args.resamples,
            num_workers=2,
            progress=progress(name),
        )
        print(name, json.dumps(sets[name]["metrics"]), flush=True)
    if args.audio.is_dir():
        tempi = json.loads(args.tempi.read_text()) if args.tempi else real_tempi(args.audio)
        header["recordings"] = evaluate_recordings(pipe, args.audio, tempi)
    published = json.loads((args.checkpoint / "results.json").read_text())
    if args.write:
        add_sets(args.checkpoint / "results.json", header, sets)
        write_card(args.checkpoint)
        print(f"wrote {args.checkpoint.name}/results.json and its card")
        return 0
    return compare(published, {**header, "sets": sets})


def load(checkpoint: Path) -> Any:
    return hf_mathrock.pipeline("mathrock-affect", model=str(checkpoint), device="cpu")


def progress(name: str) -> Any:
    def show(done: int, total: int) -> None:
        if sys.stderr.isatty() or done == total:
            print(f"\r{name} {done}/{total}", end="\n" if done == total else "", file=sys.stderr)

    return show


def calibrate_on_generated(pipe: Any, checkpoint: Path, reported: Protocol) -> None:
    """Fit temperatures and thresholds on pieces of their own seeds, and write them beside the weights.

    Thresholds and temperatures of before are those that training left, so that a second calibration gives the same.
    """
    pipe.model.config.temperatures, pipe.model.config.thresholds = None, None
    fit = predict_generated(pipe, CALIBRATION, num_workers=2, progress=progress("to calibrate"))
    report = predict_generated(pipe, reported, num_workers=2, progress=progress("to report"))
    found = calibrate(fit, report)
    data = describe_data(fit, {"source": "hf_mathrock.synthesis"}, ["validation"])
    division = f"pieces from seed {CALIBRATION.seed:,} on; reported on those from {reported.seed:,} on"
    record = calibration_record(pipe, found, report, sorted(fit.content_ids), data=data, division=division, rule="f1")
    run = CalibrationRun(found, record)
    write_calibrated(run, pipe, str(checkpoint), None)
    for name, entry in record["tasks"].items():
        print(name, {key: value for key, value in entry.items() if key != "thresholds"}, flush=True)
    print(*found.remarks, sep="\n")


def compare(published: dict[str, Any], measured: dict[str, Any]) -> int:
    """Print every figure that is not what was published; 1 if one is out of the tolerance, or of other weights."""
    if published["fingerprint"] != measured["fingerprint"]:
        print("results.json is of other weights: measure with --write", file=sys.stderr)
        return 1
    num_figures, worst = 0, 0.0
    for name, entry in measured["sets"].items():
        before = published["sets"].get(name)
        if before is None or before["protocol"]["num"] != entry["protocol"]["num"]:
            print(f"{name}: nothing of this size was published")
            continue
        for metric, value in entry["metrics"].items():
            difference = abs(value - before["metrics"][metric])
            num_figures, worst = num_figures + 1, max(worst, difference)
            if difference > TOLERANCE:
                print(f"{name} {metric}: {value:.4f}, published {before['metrics'][metric]:.4f}")
    print(f"{num_figures} figures measured again; the largest difference is {worst:.4f}, {TOLERANCE} is tolerated")
    return int(worst > TOLERANCE or not num_figures)


if __name__ == "__main__":
    raise SystemExit(main())
