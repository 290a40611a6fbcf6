# SPDX-License-Identifier: Apache-2.0
"""Everything a card is made from, read from a checkpoint's folder."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hf_mathrock.model_card.encoder import is_encoder
from hf_mathrock.model_card.facts import checked_facts


@dataclass(frozen=True)
class CardSource:
    """A checkpoint as its card describes it.

    Attributes:
        name: Of the model, without its owner.
        repo: Where it is or will be on the Hub, `org/name`; `None`: nowhere.
        config: `config.json`.
        extractor: `preprocessor_config.json`.
        results: `results.json`, if anything was measured.
        calibration: `calibration.json`, if it was calibrated.
        recipe: `recipe.json`, if it was trained by one.
        songs: Report of the labelled songs it was trained on, from `training_songs.json`, if there is one.
        example: `example_output.json`, if an example lies beside the weights.
        facts: See `CARD_KEYS`.
        num_parameters: Of the weights that were learned.
        size_bytes: Of the weights' files.
        fingerprint: Of the weights, if it is known.
    """

    name: str
    repo: str | None
    config: dict[str, Any]
    extractor: dict[str, Any]
    results: dict[str, Any] | None
    calibration: dict[str, Any] | None
    recipe: dict[str, Any] | None
    songs: dict[str, Any] | None
    example: dict[str, Any] | None
    facts: dict[str, Any]
    num_parameters: int
    size_bytes: int
    fingerprint: str | None = None
    task_names: list[str] = field(init=False)

    def __post_init__(self) -> None:
        tasks = [] if is_encoder(self.config) else self.config["tasks"]
        object.__setattr__(self, "task_names", [task["name"] for task in tasks])


def read_source(
    folder: str | Path,
    *,
    repo: str | None = None,
    facts: Mapping[str, Any] | None = None,
    fingerprint: str | None = None,
) -> CardSource:
    """Read the folder of a checkpoint.

    Args:
        folder: Holds `config.json`, the weights, and what there is of the other files.
        repo: Where the model will be on the Hub.
        facts: Instead of those of the recipe.
        fingerprint: Of the weights; what is in the folder must be of them. `None`: that of `results.json` is believed.

    Raises:
        ValueError: A file is no JSON, or its figures are of other weights.
        OSError: A file that must be there is not.
    """
    folder = Path(folder)
    names = ("results", "calibration", "recipe", "training_songs", "example_output")
    files = {name: read_json(folder / f"{name}.json") for name in names}
    results, recipe = files["results"], files["recipe"]
    for name in ("results", "calibration"):
        if (content := files[name]) is not None:
            check_fingerprint(content, f"{name}.json", fingerprint)
    if results is not None:
        _check_results(results)
    weights = sorted(folder.glob("model*.safetensors"))
    name = repo.split("/")[-1] if repo else (results or recipe or {}).get("checkpoint") or folder.resolve().name
    config, extractor = read_json(folder / "config.json"), read_json(folder / "preprocessor_config.json")
    if config is None or extractor is None:
        raise FileNotFoundError(
            f"{folder.name} lacks {'config.json' if config is None else 'preprocessor_config.json'}."
        )
    return CardSource(
        name=name,
        repo=repo,
        config=config,
        extractor=extractor,
        results=results,
        calibration=files["calibration"],
        recipe=recipe,
        songs=(files["training_songs"] or {}).get("report"),
        example=files["example_output"],
        facts=checked_facts(facts if facts is not None else (recipe or {}).get("card")),
        num_parameters=(results or {}).get("num_parameters") or sum(map(_num_parameters, weights)),
        size_bytes=sum(file.stat().st_size for file in weights),
        fingerprint=fingerprint or (results or {}).get("fingerprint"),
    )


def _check_results(results: dict[str, Any]) -> None:
    """Refuse what holds no figures; beside an encoder's `probes` there may be no `sets`."""
    probes = results.get("probes")
    if probes is not None:
        needed = {"task", "metric", "how", "mean", "sd", "num_seeds", "num_test"}
        for entry in probes if isinstance(probes, list) else [probes]:
            if missing := sorted(needed - set(entry if isinstance(entry, dict) else ())):
                raise ValueError(f"results.json holds a probe without {', '.join(missing)}; measure it again.")
        results.setdefault("sets", {})
    if not isinstance(results.get("sets"), dict):
        raise ValueError("results.json has no `sets`; it was not written by `hf-mathrock evaluate`.")


def check_fingerprint(content: Mapping[str, Any], name: str, fingerprint: str | None) -> None:
    """Refuse figures of other weights.

    Raises:
        ValueError: The content states none, or another one.
    """
    stated = content.get("fingerprint")
    if not stated:
        raise ValueError(f"{name} does not say which weights it is of (no `fingerprint`); measure them again.")
    if fingerprint is not None and stated != fingerprint:
        command = "calibrate" if name.startswith("calibration") else "evaluate"
        raise ValueError(
            f"{name} is of other weights: its fingerprint is {stated}, that of the model {fingerprint}. The model was "
            f"probably trained on after it was measured; run `hf-mathrock {command}` again, or remove the file."
        )


def read_json(path: Path) -> dict[str, Any] | None:
    """A JSON object; `None` if there is no such file.

    Raises:
        ValueError: The file holds something else.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise ValueError(f"{path.name} is no JSON: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path.name} must hold a JSON object, got a {type(content).__name__}.")
    return content


def _num_parameters(weights: Path) -> int:
    """From the header of a safetensors file: a length of eight bytes, then JSON of name → dtype, shape, offsets.

    Integers are look-up tables and counters, running statistics are measured: neither was learned.
    """
    with open(weights, "rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(length))
    total = 0
    for name, tensor in header.items():
        if name != "__metadata__" and "F" in tensor["dtype"] and ".running_" not in name:
            size = 1
            for length in tensor["shape"]:
                size *= length
            total += size
    return total
