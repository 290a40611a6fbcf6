# SPDX-License-Identifier: Apache-2.0
"""Checkpoint folders that can prove they are whole.

`MANIFEST.json` lists every file of a folder with its size and SHA-256, and its own digest. It is written last, when
everything else is on the disk, so a folder without one was never finished.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import shutil
from collections.abc import Iterable
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

MANIFEST = "MANIFEST.json"
FORMAT = 1
# Never matches transformers' own pattern of checkpoint folders, which is anchored.
UNFINISHED = "tmp-"
_CHECKPOINT = re.compile(r"checkpoint-(\d+)")
_LEFT_OVER = re.compile(r"tmp-(replaced-|removed-)?(checkpoint-\d+)")
_PACKAGES = ("hf-mathrock", "torch", "transformers", "accelerate")
_WEIGHTS = re.compile(
    r"([^/]+/)?(model|adapter_model|pytorch_model)([-.][^/]*)?\.(safetensors|bin)|pytorch_model_fsdp_\d+/.*|global_step.*"
)
_OPTIMIZER = re.compile(r"optimizer.*|rank\d+-of-\d+-optimizer.*|global_step.*")
_SCHEDULER = re.compile(r"scheduler\.pt|global_step.*")
_RANDOM = re.compile(r"rng_state(_\d+)?\.pth")
_STATE = "trainer_state.json"


def write_manifest(folder: str | Path, *, num_processes: int = 1, save_number: int | None = None) -> dict[str, Any]:
    """Bring a folder's files to the disk and certify them: afterwards `verify_checkpoint` finds nothing wrong with it.

    Also the way to accept a checkpoint of another program, or one whose files were changed on purpose.

    Args:
        folder: The checkpoint.
        num_processes: That trained it; each has its own random state in it.
        save_number: Its place among the saves of the run folder; `None`: after all others beside it.

    Returns:
        What was written: `format`, `step` (or None), `save_number`, `num_processes`, `date`, `versions`, `files`
        (`size` and `sha256` of each, by path) and `digest` of all that.

    Raises:
        OSError: A file cannot be read, or the disk takes no more.
    """
    folder = Path(folder)
    files, folders = {}, [folder]
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_dir():
            folders.append(path)
        elif not name.startswith(MANIFEST):
            files[name] = {"size": path.stat().st_size, "sha256": _digest(path, sync=True)}
    for inner in reversed(folders):
        sync_folder(inner)
    if save_number is None:
        save_number = next_save_number(folder.parent)
    manifest: dict[str, Any] = {
        "format": FORMAT,
        "step": _step(folder),
        "save_number": save_number,
        "num_processes": num_processes,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": {name: _version(name) for name in _PACKAGES},
        "files": files,
    }
    manifest["digest"] = _own_digest(manifest)
    draft = folder / f"{MANIFEST}.tmp"
    with open(draft, "w", encoding="utf-8") as file:
        json.dump(manifest, file, indent=1)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())
    os.replace(draft, folder / MANIFEST)
    sync_folder(folder)
    return manifest


def verify_checkpoint(folder: str | Path, *, resumable: bool = True) -> list[str]:
    """What is wrong with a checkpoint; an empty list if it is as it was saved.

    Files that the manifest does not name are not looked at: results or a card may be added to a checkpoint.

    Args:
        folder: The checkpoint.
        resumable: Whether it must hold all that training needs to go on as if it had never stopped.
    """
    folder = Path(folder)
    if not folder.is_dir():
        return ["there is no such folder"]
    if any(_LEFT_OVER.fullmatch(part) for part in (folder.name, folder.resolve().parent.name)):
        return ["it is what an interrupted save has left"]
    manifest, problem = _read_manifest(folder)
    if manifest is None:
        return [problem]
    problems = []
    for name, expected in manifest["files"].items():
        path = folder / name
        try:
            if not path.is_file():
                problems.append(f"{name} is missing")
            elif (size := path.stat().st_size) != expected["size"]:
                problems.append(f"{name} has {size} bytes instead of {expected['size']}")
            elif _digest(path) != expected["sha256"]:
                problems.append(f"{name} is not what was saved (SHA-256)")
        except OSError as error:
            problems.append(f"{name} cannot be read ({error.strerror})")
    return problems + (_lacking(manifest["files"], manifest["num_processes"]) if resumable else [])


def newest_verified(run_dir: str | Path) -> tuple[Path | None, dict[str, list[str]]]:
    """The checkpoint of a run folder that was saved last, of those from which training can go on.

    Args:
        run_dir: Holds the `checkpoint-<step>` folders.

    Returns:
        Its path, or `None`; and those passed over, by name, with what is wrong with each.
    """
    passed_over: dict[str, list[str]] = {}
    for folder in reversed(by_age(run_dir, unknown_last=True)):
        problems = verify_checkpoint(folder)
        if not problems:
            return folder, passed_over
        passed_over[folder.name] = problems
    return None, passed_over


def by_age(run_dir: str | Path, *, unknown_last: bool = False) -> list[Path]:
    """Checkpoint folders in the order they were saved.

    Not by their steps: a new run in an old run's folder starts again at low ones.

    Args:
        run_dir: Holds them; need not exist.
        unknown_last: Where those without a sound manifest go: to the newest, or to the oldest.
    """
    if not Path(run_dir).is_dir():
        return []
    unknown = float("inf") if unknown_last else -1.0
    placed = []
    for folder in Path(run_dir).iterdir():
        if (match := _CHECKPOINT.fullmatch(folder.name)) and folder.is_dir():
            manifest, _ = _read_manifest(folder)
            placed.append((manifest["save_number"] if manifest else unknown, int(match[1]), folder))
    return [folder for *_, folder in sorted(placed)]


def next_save_number(run_dir: str | Path) -> int:
    """One more than any checkpoint of a run folder has."""
    manifests = [_read_manifest(folder)[0] for folder in by_age(run_dir)]
    return 1 + max((manifest["save_number"] for manifest in manifests if manifest), default=0)


def put_in_place(folder: Path, target: Path) -> None:
    """Give a finished folder its name, in one step that survives a crash; a folder of that name is replaced.

    Between the two renames of a replacement there is no folder of that name: `tidy` then brings the old one back.
    """
    aside = target.with_name(f"{UNFINISHED}replaced-{target.name}")
    if target.exists():
        os.rename(target, aside)
    os.rename(folder, target)
    sync_folder(target.parent)
    shutil.rmtree(aside, ignore_errors=True)


def rotate(run_dir: Path, limit: int | None, protected: Iterable[str | Path | None]) -> None:
    """Remove the checkpoints saved first until `limit` are left.

    Args:
        run_dir: Holds them.
        limit: How many may stay; `None` or 0: all.
        protected: Paths of those that stay in any case.
    """
    if limit is None or limit <= 0:
        return
    folders = by_age(run_dir)
    kept = {Path(path).name for path in protected if path is not None}
    excess = len(folders) - max(limit, sum(folder.name in kept for folder in folders))
    for folder in [folder for folder in folders if folder.name not in kept][: max(0, excess)]:
        # Under another name first: killed half-way, it would look like a damaged checkpoint.
        doomed = folder.with_name(f"{UNFINISHED}removed-{folder.name}")
        os.rename(folder, doomed)
        shutil.rmtree(doomed, ignore_errors=True)


def tidy(run_dir: str | Path) -> None:
    """Remove what interrupted saves have left in a run folder, and bring back what they were about to replace."""
    run_dir = Path(run_dir)
    if not run_dir.is_dir():
        return
    for path in sorted(run_dir.iterdir()):
        if match := _LEFT_OVER.fullmatch(path.name):
            if match[1] == "replaced-" and not (run_dir / match[2]).exists():
                os.rename(path, run_dir / match[2])
                sync_folder(run_dir)
            else:
                shutil.rmtree(path, ignore_errors=True)


def sync_folder(folder: Path) -> None:
    """Bring the names in a folder to the disk."""
    if os.name == "nt":  # folders cannot be opened there
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _digest(path: Path, sync: bool = False) -> str:
    with io.FileIO(path, "r+" if sync and os.name == "nt" else "r") as file:
        if sync:
            os.fsync(file.fileno())
        return hashlib.file_digest(file, "sha256").hexdigest()


def _own_digest(manifest: dict[str, Any]) -> str:
    rest = {key: value for key, value in manifest.items() if key != "digest"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def _read_manifest(folder: Path) -> tuple[dict[str, Any] | None, str]:
    """The manifest of a folder, or what is wrong with it."""
    try:
        manifest = json.loads((folder / MANIFEST).read_bytes())
        if manifest["digest"] != _own_digest(manifest):
            raise ValueError("it contradicts its own digest")
        if manifest["format"] > FORMAT:
            return None, f"{MANIFEST} has format {manifest['format']}, made by a newer hf-mathrock than this"
        for name, facts in manifest["files"].items():
            if Path(name).is_absolute() or ".." in Path(name).parts or not {"size", "sha256"} <= set(facts):
                raise ValueError(f"no file of a checkpoint: {name}")
        int(manifest["save_number"]), int(manifest["num_processes"])
        return manifest, ""
    except FileNotFoundError:
        return None, f"there is no {MANIFEST}: its save was not finished, or another program made it"
    except OSError as error:
        return None, f"{MANIFEST} cannot be read ({error.strerror})"
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None, f"{MANIFEST} is damaged"


def _lacking(names: Iterable[str], num_processes: int) -> list[str]:
    """What a checkpoint of these files lacks for training to go on."""
    names = list(names)
    states = sum(_RANDOM.fullmatch(name) is not None for name in names)
    lacking = [
        what
        for what, found in (
            ("weights", any(_WEIGHTS.fullmatch(name) for name in names)),
            ("state of the optimizer", any(_OPTIMIZER.fullmatch(name) for name in names)),
            ("state of the learning rate's scheduler", any(_SCHEDULER.fullmatch(name) for name in names)),
            ("random state", states >= num_processes),
            ("state of the trainer", _STATE in names),
        )
        if not found
    ]
    return [f"it has no {what}, without which training cannot go on (`save_only_model`?)" for what in lacking]


def _step(folder: Path) -> int | None:
    try:
        return int(json.loads((folder / _STATE).read_bytes())["global_step"])
    except (OSError, ValueError, KeyError, TypeError):
        match = _CHECKPOINT.fullmatch(folder.name)
        return int(match[1]) if match else None


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
