# SPDX-License-Identifier: Apache-2.0
"""Does a fine-tune on a few hundred clips of another sound help? Heads alone, LoRA and all weights, side by side.

    python benchmarks/adaptation.py [--num-train 300] [--num-test 400] [--seeds 0 1 2]

The embedded checkpoint learned from our renderer only. Here it goes on with pieces that FluidSynth played (Debian:
fluidsynth and fluid-soundfont-gm), and is measured on other pieces that FluidSynth played, those of the published set
`unseen_renderer`. Prints a table for EXPERIMENTS.md; some twenty minutes on two cores.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import soundfile

import hf_mathrock
from hf_mathrock import (
    MathRockFeatureExtractor,
    MathRockForAudioClassification,
    MathRockTrainer,
    MathRockTrainingArguments,
    embedded_checkpoint,
    load_labelled_audio,
)
from hf_mathrock.evaluation.generated import SAMPLING_RATE, Protocol, rendered_pieces
from hf_mathrock.evaluation.labelled import evaluate_labelled

COMMON = {
    "early_stopping_patience": 4,
    "per_device_train_batch_size": 16,
    "per_device_eval_batch_size": 32,
    "save_total_limit": 1,
    "disable_tqdm": True,
    "lr_scheduler_type": "cosine",
    "warmup_steps": 0.1,
}
TUNINGS: dict[str, dict[str, Any]] = {
    "heads": {"num_train_epochs": 40, "learning_rate": 1e-3},
    "lora": {"num_train_epochs": 15, "learning_rate": 1e-3},
    "full": {"num_train_epochs": 15, "learning_rate": 1e-3, "backbone_learning_rate": 3e-4},
}
SHOWN = ("tempo_macro_f1", "intensity_macro_f1", "vibe_macro_f1", "emotion_map")


def corpus(protocol: Protocol, folder: Path) -> Path:
    """The pieces of a protocol as a folder of FLAC with its metadata."""
    folder.mkdir(parents=True)
    with open(folder / "metadata.jsonl", "w") as metadata:
        for piece, audio in rendered_pieces(protocol, num_workers=2):
            name = f"{piece.work_id}.flac"
            soundfile.write(folder / name, audio.T, SAMPLING_RATE)
            heard = piece.labels
            row = {"emotion": heard.emotions, "vibe": heard.vibe, "intensity": heard.intensity, "tempo": heard.tempo}
            metadata.write(json.dumps({"file_name": name, "work_id": piece.work_id, **row}) + "\n")
    return folder


def tuned(tuning: str, train: Any, validation: Any, out: Path, seed: int) -> tuple[Any, float]:
    """A model after its fine-tune, and the seconds that took."""
    model = MathRockForAudioClassification.from_pretrained(embedded_checkpoint())
    args = MathRockTrainingArguments(str(out), tuning=tuning, seed=seed, **COMMON, **TUNINGS[tuning])
    extractor = MathRockFeatureExtractor.from_pretrained(embedded_checkpoint())
    trainer = MathRockTrainer(model, args, train_dataset=train, eval_dataset=validation, processing_class=extractor)
    begun = time.perf_counter()
    trainer.train()
    seconds = time.perf_counter() - begun
    trainer.save_model(str(out / "model"))
    return out / "model", seconds


def measured(model: Any, songs: Any) -> dict[str, Any]:
    """Figures of a model on all songs, with their intervals."""
    pipe = hf_mathrock.pipeline("mathrock-affect", model=str(model), device="cpu")
    return evaluate_labelled(pipe, songs, ["test"], num_resamples=1000).entry


def row(name: str, entry: dict[str, Any], seconds: float | None) -> str:
    cells = [name]
    for metric in SHOWN:
        low, high = entry["intervals"][metric]
        cells.append(f"{entry['metrics'][metric]:.3f} ({low:.2f} to {high:.2f})")
    return f"| {' | '.join([*cells, '' if seconds is None else f'{seconds:.0f} s'])} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--num-train", type=int, default=300)
    parser.add_argument("--num-test", type=int, default=400)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--tunings", nargs="+", default=list(TUNINGS), choices=list(TUNINGS))
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        own = corpus(Protocol(args.num_train, seed=5_000_000, renderer="soundfont"), folder / "own")
        test = corpus(Protocol(args.num_test, seed=3_500_000, renderer="soundfont"), folder / "test")
        tasks = MathRockForAudioClassification.from_pretrained(embedded_checkpoint()).config.tasks
        songs = load_labelled_audio(own, tasks, shares={"train": 0.85, "validation": 0.15})
        test_songs = load_labelled_audio(test, tasks, shares={"test": 1})
        print("| | tempo F1 | intensity F1 | vibe F1 | emotion mAP | training |\n|---|---|---|---|---|---|")
        print(row("before", measured(embedded_checkpoint(), test_songs), None), flush=True)
        for tuning in args.tunings:
            for seed in args.seeds:
                out = folder / f"{tuning}-{seed}"
                model, seconds = tuned(tuning, songs["train"], songs["validation"], out, seed)
                print(row(f"{tuning}, seed {seed}", measured(model, test_songs), seconds), flush=True)


if __name__ == "__main__":
    main()
