# SPDX-License-Identifier: Apache-2.0
"""Which files a MODEL stands for: a checkpoint's folder, a trainer's output, a recipe's run, or a name."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

from hf_mathrock.registry import FAMILIES
from hf_mathrock.zoo import EMBEDDED, embedded_checkpoint

BESIDE = ("results.json", "calibration.json", "recipe.json", "training_songs.json")
_WEIGHTS = ("model.safetensors", "model.safetensors.index.json")


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint to publish.

    Attributes:
        folder: Holds weights, config and extractor.
        beside: The files of `BESIDE` that belong to it, by name.
        note: What the user should know about the choice, if there was one.
    """

    folder: Path
    beside: dict[str, Path]
    note: str | None = None


def find_checkpoint(model: str | Path) -> Checkpoint:
    """The checkpoint that a MODEL stands for.

    Args:
        model: A checkpoint's folder; a folder of `checkpoint-N`, of which the last is taken; the name of an embedded
            checkpoint; or a name on the Hub, whose files are then fetched.

    Raises:
        ValueError: It is no checkpoint of this package.
        OSError: There is no such folder or repository.
    """
    note = None
    if str(model) in EMBEDDED:
        folder = embedded_checkpoint(str(model))
    elif Path(model).is_dir():
        folder = Path(model)
    else:
        folder = _fetched(str(model))
    if not _has_weights(folder) and (numbered := _numbered(folder)):
        folder = numbered[-1]
        note = f"took {folder.name}, the last of {len(numbered)}" if len(numbered) > 1 else f"took {folder.name}"
    _check(folder)
    beside = {name: folder / name for name in BESIDE if (folder / name).is_file()}
    if "recipe.json" not in beside and folder.name.startswith("checkpoint-"):
        # A recipe's run keeps the trainer's checkpoints in a folder of their own.
        for parent in list(folder.resolve().parents)[:2]:
            beside |= {
                name: parent / name for name in ("recipe.json", "training_songs.json") if (parent / name).is_file()
            }
    return Checkpoint(folder, beside, note)


def _has_weights(folder: Path) -> bool:
    return any((folder / name).is_file() for name in _WEIGHTS)


def _numbered(folder: Path) -> list[Path]:
    """Checkpoints of a trainer, in order; also those of a run whose training did not reach its end."""
    for place in (folder, folder / "trainer"):
        found = [path for path in place.glob("checkpoint-*") if path.name[11:].isdecimal() and _has_weights(path)]
        if found:
            return sorted(found, key=lambda path: int(path.name[11:]))
    return []


def _check(folder: Path) -> None:
    if (folder / "adapter_config.json").is_file() and not _has_weights(folder):
        raise ValueError(
            f"{folder} holds an adapter only, which does not load by itself: merge it into its model first "
            "(`model.merge_and_unload()` of peft), and save that."
        )
    for name in ("config.json", "preprocessor_config.json"):
        if not (folder / name).is_file():
            raise ValueError(
                f"{folder} has no {name}, so it is no checkpoint that loads: save the model and its extractor there "
                "(`pipe.save_pretrained`), or name the folder that `hf-mathrock train` wrote."
            )
    if not _has_weights(folder):
        pickled = " There is a pickled file; only safetensors are published." if list(folder.glob("*.bin")) else ""
        raise ValueError(f"{folder} has no {_WEIGHTS[0]}: these are no weights to publish.{pickled}")
    model_type = json.loads((folder / "config.json").read_text(encoding="utf-8")).get("model_type")
    if model_type not in (known := [family.model_type for family in FAMILIES]):
        raise ValueError(f"{folder} holds a {model_type!r}; hf-mathrock publishes: {', '.join(known)}.")


def _fetched(name: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError

    if not re.fullmatch(r"[\w.-]+/[\w.-]+", name):
        raise FileNotFoundError(f"There is no folder {name!r}, and it is no name on the Hub (org/name) either.")
    try:
        return Path(snapshot_download(name, allow_patterns=["*.json", "model*.safetensors"]))
    except HFValidationError as error:
        raise ValueError(str(error)) from error
    except OSError as error:
        raise FileNotFoundError(
            f"There is no folder {name!r}, and the Hub gave no repository of that name: {str(error).splitlines()[0]}"
        ) from error
