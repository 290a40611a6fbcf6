# SPDX-License-Identifier: Apache-2.0
"""Say what is installed, and what a checkpoint is: read from files, without loading a model."""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hf_mathrock.cli.terminal import UsageError, results_console
from hf_mathrock.model_card.architecture import describe_architecture, listening_grid, usage_task
from hf_mathrock.model_card.encoder import describe_embedding, describe_lengths, is_encoder

SUMMARY = "show versions and what a checkpoint can say"

PACKAGES = ("torch", "transformers", "datasets", "huggingface_hub", "safetensors", "numpy", "soundfile", "soxr")
_MAIN_METRICS = ("_accuracy", "_macro_f1", "_map", "_ece")
OPTIONAL_PACKAGES = ("torchaudio", "torchcodec")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments of `hf-mathrock info`."""
    parser.add_argument(
        "model",
        nargs="?",
        default="mathrock-tiny",
        metavar="MODEL",
        help="folder of a checkpoint, or name of one inside",
    )


def run(args: argparse.Namespace) -> int:
    """Prints both parts."""
    from rich.table import Table
    from rich.text import Text

    console = results_console()
    # The facts are gathered as they are printed: a wrong MODEL still leaves the environment on the screen.
    for title, facts in (("environment", _environment()), ("checkpoint", _checkpoint(args.model))):
        table = Table(box=None, show_header=False, padding=(0, 2, 0, 0), pad_edge=False)
        table.add_column(style="dim", no_wrap=True)
        table.add_column(overflow="fold")
        for name, fact in facts:
            table.add_row(Text(name), Text(fact))
        console.print(Text(title, style="bold"))
        console.print(table)
        console.print()
    return 0


def _environment() -> Iterator[tuple[str, str]]:
    import platform
    from importlib import metadata

    from hf_mathrock import __version__

    yield "hf-mathrock", __version__
    yield "Python", f"{platform.python_version()} on {platform.platform(terse=True)}"
    for name in PACKAGES:
        try:
            version = metadata.version(name)
        except metadata.PackageNotFoundError:
            version = "not installed"
        yield name, version + (f" with {_libsndfile()}" if name == "soundfile" else "")
    for name in OPTIONAL_PACKAGES:
        try:
            version = metadata.version(name)
        except metadata.PackageNotFoundError:
            yield name, "not installed (not needed)"
        else:
            yield name, f"{version}, {_importable(name)}"


def _libsndfile() -> str:
    try:
        import soundfile
    except (ImportError, OSError) as error:
        return f"no libsndfile: {_first_line(error)}"
    return f"libsndfile {soundfile.__libsndfile_version__}"


def _importable(name: str) -> str:
    # Only an import tells: the wheels are complete, but the libraries they link may be missing.
    from importlib import import_module

    try:
        import_module(name)
    except (ImportError, OSError, RuntimeError) as error:
        return f"cannot be imported (not needed): {_first_line(error)}"
    return "usable"


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def _folder(model: str) -> Path:
    from hf_mathrock.zoo import EMBEDDED, embedded_checkpoint

    folder = embedded_checkpoint(model) if model in EMBEDDED else Path(model)
    if not (folder / "config.json").is_file():
        raise UsageError(
            f"there is no config.json in {str(folder)!r}; give the folder of a checkpoint, or {' or '.join(EMBEDDED)}"
        )
    return folder


def _checkpoint(model: str) -> Iterator[tuple[str, str]]:
    folder = _folder(model)
    config = _read_json(folder / "config.json")
    yield "name", folder.resolve().name
    yield "folder", str(folder)
    yield "type", str(config.get("model_type", "unknown"))
    for weights in sorted(folder.glob("*.safetensors")):
        size = weights.stat().st_size / 1e6
        yield "weights", f"{_num_parameters(weights):,} parameters, {size:.1f} MB ({weights.name})"
    gives_embeddings = is_encoder(config)
    try:
        architecture = describe_architecture(config)
    except ValueError as error:
        raise UsageError(f"{folder}: {error}") from error
    if gives_embeddings:
        yield "embedding", describe_embedding(config)
    for task in () if gives_embeddings else config.get("tasks", ()):
        yield task["name"], f"{task['type'].replace('_', ' ')}: {', '.join(task['labels'])}"
    if architecture:
        yield "network", architecture.replace("`", "")
    extractor = folder / "preprocessor_config.json"
    if gives_embeddings:
        yield "lengths", describe_lengths(config).replace("`", "")
    elif extractor.is_file():
        try:
            window, hop = listening_grid(_read_json(extractor))
        except ValueError as error:
            raise UsageError(f"{folder}: {error}") from error
        yield "window seconds", f"{window:.4g}"
        yield "hop seconds", f"{hop:.4g}"
    yield "pipeline", usage_task(config)
    calibration = folder / "calibration.json"
    if calibration.is_file():
        fitted = _read_json(calibration)
        yield "calibrated", f"on {fitted['fitted_on']['num_songs']} songs: {', '.join(fitted['tasks'])}"
    results = folder / "results.json"
    if results.is_file():
        yield from _figures(_read_json(results))


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UsageError(f"{str(path)!r} is no JSON: {error}") from error


def _num_parameters(weights: Path) -> int:
    """Counts from the header of a safetensors file."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(weights, framework="numpy") as file:
            tensors = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118 - `file` is no dict
            # Integers are look-up tables, running statistics are measured: neither was learned.
            return sum(
                math.prod(tensor.get_shape())
                for name, tensor in tensors.items()
                if "F" in tensor.get_dtype() and ".running_" not in name
            )
    except SafetensorError as error:
        raise UsageError(
            f"{str(weights)!r} is damaged or no safetensors file ({error}); fetch it again, in a clone by git lfs pull"
        ) from error


def _figures(results: Any) -> Iterator[tuple[str, str]]:
    """Main figures of every set, with their 95 % intervals where there are any."""
    for name, entry in results.get("sets", {}).items():
        yield f"measured on {name.replace('_', ' ')}", str(entry.get("title", ""))
        for metric, value in entry.get("metrics", {}).items():
            if metric.endswith(_MAIN_METRICS):
                low, high = entry.get("intervals", {}).get(metric, (None, None))
                interval = "" if low is None else f" ({low:.3f} to {high:.3f})"
                yield f"  {metric.replace('_', ' ')}", f"{value:.3f}{interval}"
    yield from _probes(results.get("probes") or [])


def _probes(entries: Any) -> Iterator[tuple[str, str]]:
    """What probes found in an embedding: a line for each task, with every way to describe a track."""
    rows: dict[tuple[str, str, str], list[str]] = {}
    for entry in entries:
        if entry.get("mean") is None:
            continue
        spread = "" if entry.get("sd") is None else f" (sd {entry['sd']:.3f})"
        row = rows.setdefault((str(entry.get("data")), str(entry.get("task")), str(entry.get("metric"))), [])
        row.append(f"{entry.get('how')} {entry['mean']:.3f}{spread}")
    before = None
    for (data, task, metric), figures in rows.items():
        if data != before:
            yield "probed on", data
        before = data
        yield f"  {task}, {metric}", "; ".join(figures)
