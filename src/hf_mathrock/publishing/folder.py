# SPDX-License-Identifier: Apache-2.0
"""The folder that is published: weights, code, licence, card, figures, and an example with its answer."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hf_mathrock.model_card.architecture import usage_task
from hf_mathrock.model_card.card import measured_before, write_card
from hf_mathrock.model_card.encoder import is_encoder
from hf_mathrock.model_card.facts import checked_facts, is_hub_name
from hf_mathrock.model_card.metadata import eval_result_files, licence_metadata
from hf_mathrock.model_card.source import check_fingerprint, read_json, read_source
from hf_mathrock.publishing.checkpoint import Checkpoint, find_checkpoint
from hf_mathrock.publishing.example import write_example
from hf_mathrock.publishing.licence import NOTICE, write_licence
from hf_mathrock.publishing.privacy import check_no_paths, places_of_this_machine, without_paths
from hf_mathrock.registry import register_now

# Per pipeline, what makes the example's answer hold every window too.
OVER_TIME: dict[str, dict[str, Any]] = {
    "mathrock-affect": {"return_segments": True},
    "music-tagging": {"return_taggram": True},
}


@dataclass(frozen=True)
class Assembled:
    """A folder ready to be published.

    Attributes:
        folder: Where it is.
        repo: Where it is meant to go.
        fingerprint: Of its weights.
        files: Paths in the folder and bytes of each.
        notes: What the publisher should know, a line each.
        task: The pipeline that it is used by.
    """

    folder: Path
    repo: str
    fingerprint: str
    files: dict[str, int]
    notes: list[str]
    task: str


def assemble(
    model: str | Path,
    out: str | Path,
    *,
    repo: str,
    facts: Mapping[str, Any] | None = None,
    results: str | Path | None = None,
    example: str | Path | None = None,
) -> Assembled:
    """Build the folder of a repository. Needs no network unless `model` is a name on the Hub.

    The folder loads where this package is not installed. It is built beside `out` and takes its place only when all is
    well.

    Args:
        model: See `find_checkpoint`.
        out: The folder; must not exist, or be empty.
        repo: Name on the Hub, `org/name`; the card tells how to load it from there.
        facts: See `CARD_KEYS`; they go before those of the recipe, key by key.
        results: Another `results.json` than the one beside the weights.
        example: See `write_example`.

    Raises:
        ValueError: No checkpoint, figures or calibration of other weights, facts of a wrong form, a path of this
            machine in a text, or a folder that is not empty.
        OSError: A file cannot be read or written.
    """
    out = Path(out)
    if not is_hub_name(repo):
        raise ValueError(
            f"The repository is {repo!r}; it must be owner and name on the Hub, such as my-name/my-mathrock."
        )
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ValueError(f"{str(out)!r} is not empty; name a folder that does not exist yet.")
    checkpoint = find_checkpoint(model)
    beside = _beside(checkpoint, results)
    facts = {**checked_facts((beside.get("recipe.json") or {}).get("card")), **checked_facts(facts)}
    licence_metadata(facts)
    if "recipe.json" in beside:
        beside["recipe.json"]["card"] = facts
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{out.name}-", dir=out.parent) as temporary:
        built = Path(temporary) / repo.split("/")[1]
        built.mkdir(mode=0o755)
        fingerprint = _save(checkpoint.folder, built, beside)
        for name, content in beside.items():
            _write_json(built / name, without_paths(content))
        write_licence(built, facts, holder=", ".join(facts.get("authors", [])) or f"the authors of {repo}")
        if (notice := checkpoint.folder / NOTICE).is_file():
            shutil.copyfile(notice, built / NOTICE)
        _write_example(built, repo, fingerprint, example)
        write_card(built, repo=repo, facts=facts, fingerprint=fingerprint)
        source = read_source(built, repo=repo, facts=facts, fingerprint=fingerprint)
        for name, text in eval_result_files(source).items():
            (built / ".eval_results").mkdir(exist_ok=True)
            (built / ".eval_results" / name).write_text(text, encoding="utf-8")
        check_no_paths(built, places_of_this_machine(checkpoint.folder, out, temporary))
        files = {}
        for path in sorted(path for path in built.rglob("*") if path.is_file()):
            path.chmod(0o644)  # weights are saved for their owner only
            files[path.relative_to(built).as_posix()] = path.stat().st_size
        if out.exists():
            out.rmdir()
        shutil.move(built, out)
    notes = [checkpoint.note] if checkpoint.note else []
    if late := measured_before(source):
        notes.append(f"the card says: {late} `hf-mathrock evaluate` measures it as it is")
    notes += _notes(beside, facts, is_encoder(source.config))
    return Assembled(out, repo, fingerprint, files, notes, usage_task(source.config))


def _beside(checkpoint: Checkpoint, results: str | Path | None) -> dict[str, dict[str, Any]]:
    paths = dict(checkpoint.beside)
    if results is not None:
        if not Path(results).is_file():
            raise FileNotFoundError(f"There is no results file {str(results)!r}; `hf-mathrock evaluate` writes one.")
        paths["results.json"] = Path(results)
    beside = {name: content for name, path in paths.items() if (content := read_json(path)) is not None}
    model = (beside.get("recipe.json") or {}).get("model")
    if isinstance(model, dict) and os.path.isdir(str(model.get("pretrained"))):
        # Written like a name on the Hub, and there is none: `runs/first`.
        model["pretrained"] = os.path.basename(os.path.abspath(model["pretrained"]))
    return beside


def _pipeline(folder: Path) -> Any:
    """The pipeline that the checkpoint is published for."""
    import transformers

    register_now()
    config = read_json(folder / "config.json") or {}
    # transformers types its factory by the tasks it ships.
    pipeline: Callable[..., Any] = transformers.pipeline
    return pipeline(usage_task(config), model=str(folder), device="cpu")


def _save(folder: Path, built: Path, beside: Mapping[str, Mapping[str, Any]]) -> str:
    """Save weights, extractor and code; returns the fingerprint of the weights, of which everything else must be."""
    pipe = _pipeline(folder)
    fingerprint = pipe.model_card["fingerprint"]
    for name in ("results.json", "calibration.json"):
        if name in beside:
            check_fingerprint(beside[name], name, fingerprint)
    for name, task in beside.get("calibration.json", {}).get("tasks", {}).items():
        used = pipe.model.config.task_temperature(name)
        if abs(used - task["temperature"]) > 1e-3 * task["temperature"]:
            raise ValueError(
                f"calibration.json gives {name!r} the temperature {task['temperature']:g}, the config {used:g}: the "
                "config was changed since. Run `hf-mathrock calibrate` again, or remove calibration.json."
            )
    pipe.save_pretrained(built)
    return fingerprint


def _write_example(built: Path, repo: str, fingerprint: str, clip: str | Path | None) -> None:
    """The example, and what the folder just built says of it."""
    path = write_example(built, clip)
    pipe = _pipeline(built)
    answer = pipe(str(path), **OVER_TIME.get(pipe.task, {}))
    if answer["model"]["fingerprint"] != fingerprint:
        raise RuntimeError("The folder that was saved holds other weights than those that were loaded.")
    # As it reads for who has fetched the repository.
    answer |= {"file": path.name, "model": {"name": repo, "fingerprint": fingerprint}}
    _write_json(built / "example_output.json", answer)


def _write_json(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def _notes(beside: Mapping[str, Any], facts: Mapping[str, Any], gives_embeddings: bool) -> list[str]:
    notes = []
    if "results.json" not in beside:
        command = "probe" if gives_embeddings else "evaluate"
        notes.append(f"nothing was measured, and the card says so; `hf-mathrock {command}` writes results.json")
    if "licence" not in facts:
        notes.append("no licence for the weights was named, and the card says so; --licence names one")
    wanted = ["summary", "training_data", *([] if gives_embeddings else ["labels"]), "limits"]
    if silent := [key for key in wanted if key not in facts]:
        notes.append(f"the card says that you have not said: {', '.join(silent)} (--card, or `card` in the recipe)")
    return notes
