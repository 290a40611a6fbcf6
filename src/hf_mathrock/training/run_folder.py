# SPDX-License-Identifier: Apache-2.0
"""The folder of a run: what may not be overwritten, how it goes on, and when it is done."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any


def check_run_folder(out: Path, settings: dict[str, Any], resume: bool) -> None:
    """Nothing that is there is overwritten, and a run goes on only as it began.

    Args:
        out: The folder.
        settings: The resolved recipe.
        resume: Whether an unfinished run may be gone on with.

    Raises:
        ValueError: The folder holds a model, or an unfinished run that is not to be resumed or has another recipe.
    """
    # With checkpoints left, a model beside them may have been cut off while it was written.
    unfinished = any((out / "trainer").glob("checkpoint-*"))
    if (out / "model.safetensors").exists() and not unfinished:
        raise ValueError(f"{out} holds a trained model already; choose another folder (--out), or remove that one.")
    if unfinished and not resume:
        raise ValueError(
            f"{out} holds an unfinished run; go on with it by --resume, choose another folder (--out), or remove it."
        )
    if unfinished and (out / "recipe.json").exists():
        before = json.loads((out / "recipe.json").read_text())
        if changed := [key for key in settings if settings[key] != before.get(key)]:
            raise ValueError(
                f"The run in {out} began with another recipe: its recipe.json differs in {', '.join(changed)}. Go on "
                "with the same settings, or begin again in another folder (--out)."
            )


def begin_run(out: Path, settings: dict[str, Any]) -> None:
    """Make the folder and write the resolved recipe into it."""
    out.mkdir(parents=True, exist_ok=True)
    (out / "recipe.json").write_text(json.dumps(settings, indent=2) + "\n")


def end_run(out: Path, extractor: Any, log_history: list[dict[str, Any]]) -> None:
    """Put the extractor and `training_log.json` beside the model that was saved, and remove the checkpoints."""
    extractor.save_pretrained(out)
    (out / "training_log.json").write_text(json.dumps(log_history, indent=1) + "\n")
    # The model is whole now; these were for going on. Out of the way at once, lest a run killed here looks unfinished.
    if (out / "trainer").exists():
        shutil.rmtree((out / "trainer").rename(out / "trainer.done"), ignore_errors=True)


def wants_cpu(device: str) -> bool:
    """Whether a device that was asked for by name is the CPU.

    Raises:
        ValueError: It is no device, or CUDA is not here.
    """
    import torch

    if device not in ("cpu", "cuda"):
        raise ValueError(f"The device is {device!r}; allowed: 'cpu', 'cuda'.")
    if device == "cuda" and not torch.cuda.is_available():
        reason = "is built without it" if torch.version.cuda is None else "finds no usable GPU"
        raise ValueError(f"CUDA was asked for, but torch {torch.__version__} {reason}; train with --device cpu.")
    return device == "cpu"
