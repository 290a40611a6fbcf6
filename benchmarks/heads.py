# SPDX-License-Identifier: Apache-2.0
"""Heads alone, fine-tuned on a few hundred clips: what the embeddings cost once, and an epoch after that.

python benchmarks/heads.py                  300 generated clips of 12 s, which take some minutes to render
python benchmarks/heads.py --clips DIR      labelled audio of your own, as `load_labelled_audio` reads it
python benchmarks/heads.py --num 20         fewer clips
"""

from __future__ import annotations

import argparse
import tempfile
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from material import checkpoint_folder
from timing import spread, summary, table

NUM_CLIPS, CLIP_SECONDS, NUM_EPOCHS = 300, 12.0, 5


def measure(folder: Path, quick: bool) -> dict[str, Any]:
    """Seconds of a heads-only fine-tune on generated clips."""
    return measure_clips(generated_clips(folder / "clips", 6 if quick else NUM_CLIPS), folder)


def generated_clips(folder: Path, num: int) -> Path:
    """A corpus of that many clips."""
    from hf_mathrock.synthesis.corpus import write_corpus

    return write_corpus(folder, num, seconds=CLIP_SECONDS)


def measure_clips(clips: Path, folder: Path) -> dict[str, Any]:
    """Fine-tune the heads of the embedded checkpoint on every clip of a folder, twice with the same cache.

    The first time all windows go through the backbones; the second time the files are hashed and their embeddings read.

    Args:
        clips: Labelled audio, as `load_labelled_audio` reads it.
        folder: Where the cache goes.
    """
    from hf_mathrock import MathRockFeatureExtractor, MathRockForAudioClassification
    from hf_mathrock.data.loading import load_labelled_audio

    checkpoint = checkpoint_folder(folder)
    extractor = MathRockFeatureExtractor.from_pretrained(checkpoint)
    starts, epochs, windows = [], [], 0
    for _ in range(2):
        model = MathRockForAudioClassification.from_pretrained(checkpoint)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # labels that no clip has
            songs = load_labelled_audio(clips, model.config.tasks, shares={"train": 1})["train"]
            trainer, stopwatch = _trainer(model, extractor, songs, folder)
        begun = time.perf_counter()
        trainer.get_train_dataloader()
        starts.append(time.perf_counter() - begun)
        trainer.train()
        epochs += stopwatch.seconds
        windows = sum(
            len(trainer.train_dataset.embeddings(song))
            for song in range(len(songs))
            if song not in trainer.train_dataset.broken
        )
    return {
        "num_clips": len(songs),
        "num_windows": windows,
        "num_trained": sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad),
        "batch_size": trainer.args.per_device_train_batch_size,
        "embedding": starts[0],
        "embedding_again": starts[1],
        "num_epochs": len(epochs),
        "epoch": summary(epochs),
    }


def _trainer(model: Any, extractor: Any, songs: Any, folder: Path) -> tuple[Any, Any]:
    from transformers import TrainerCallback

    from hf_mathrock import MathRockTrainer
    from hf_mathrock.training.arguments import MathRockTrainingArguments

    class Stopwatch(TrainerCallback):
        def __init__(self) -> None:
            self.seconds: list[float] = []

        def on_epoch_begin(self, *_: Any, **__: Any) -> None:
            self.begun = time.perf_counter()

        def on_epoch_end(self, *_: Any, **__: Any) -> None:
            self.seconds.append(time.perf_counter() - self.begun)

    args = MathRockTrainingArguments(
        str(folder / "run"),
        tuning="heads",
        embedding_cache_dir=str(folder / "embeddings"),
        num_train_epochs=NUM_EPOCHS,
        save_strategy="no",
        disable_tqdm=True,
        use_cpu=True,
    )
    stopwatch = Stopwatch()
    trainer = MathRockTrainer(model, args, train_dataset=songs, processing_class=extractor, callbacks=[stopwatch])
    return trainer, stopwatch


def render(result: dict[str, Any]) -> str:
    """The section of BENCHMARKS.md."""
    clips = result["num_clips"]
    rows = [
        [
            "embedding every window, once",
            f"{result['embedding']:.1f} s",
            f"{1e3 * result['embedding'] / clips:.0f} ms",
        ],
        [
            "starting again with the embeddings on disk",
            f"{result['embedding_again']:.1f} s",
            f"{1e3 * result['embedding_again'] / clips:.1f} ms",
        ],
        ["an epoch", spread(result["epoch"]), f"{1e3 * result['epoch']['median'] / clips:.1f} ms"],
    ]
    return "\n\n".join(
        [
            "## Fine-tuning the heads",
            f'`MathRockTrainer` with `tuning="heads"` on {clips} clips ({result["num_windows"]} windows of 10 s), the '
            f"embedded checkpoint, {result['num_trained'] / 1e6:.2f} M parameters trained, batches of "
            f"{result['batch_size']}; {result['num_epochs']} epochs in two runs.",
            table(["", "seconds", "per clip"], rows),
        ]
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures and prints; `benchmarks/run.py --only heads` writes."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--clips", type=Path, metavar="DIR", help="labelled audio instead of generated clips")
    parser.add_argument("--num", type=int, default=NUM_CLIPS, help="generated clips (default: %(default)s)")
    args = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="mathrock-heads-") as folder:
        clips = args.clips or generated_clips(Path(folder) / "clips", args.num)
        print(render(measure_clips(clips, Path(folder))))


if __name__ == "__main__":
    main()
