# SPDX-License-Identifier: Apache-2.0
"""Embed songs: one vector each, of the whole song, as Parquet that playlists and analyses start from."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

from hf_mathrock.cli.checkpoint import load_pipeline, resolve
from hf_mathrock.cli.terminal import ProgressBar, UsageError, positive_float, positive_int, say, whole_number

SUMMARY = "turn songs into embeddings, one vector each, as Parquet"
CHUNK_SECONDS = 3.0
DEFAULT_MODEL = "mathrock-tiny"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments of `hf-mathrock embed`."""
    unset: dict[str, Any] = {"default": argparse.SUPPRESS}  # the pipeline's own value is used
    parser.add_argument("paths", nargs="+", metavar="PATH", help="folder to search for audio, or audio file")
    parser.add_argument(
        "--out", type=Path, metavar="RUN", required=True, help="folder or file *.parquet; what it holds is not redone"
    )
    parser.add_argument(
        "--model", help=f"folder or Hub name of a checkpoint (default: {DEFAULT_MODEL}, which is inside)", **unset
    )
    parser.add_argument("--revision", help="branch, tag or commit of a checkpoint on the Hub", **unset)
    how = parser.add_argument_group("how to listen")
    how.add_argument(
        "--how",
        choices=("whole", "chunks"),
        help="the whole song at once, or the mean of chunks (default: whole, where the model can)",
        **unset,
    )
    how.add_argument(
        "--chunk-seconds", type=positive_float, metavar="S", help=f"length of a chunk ({CHUNK_SECONDS:g})", **unset
    )
    how.add_argument("--batch-size", type=positive_int, metavar="N", help="songs or chunks in a forward pass", **unset)
    how.add_argument(
        "--num-workers", type=whole_number, metavar="N", default=1, help="threads that read songs ahead (1)"
    )
    how.add_argument("--device", help="where the model runs, e.g. cpu, cuda:0, mps", **unset)


def run(args: argparse.Namespace) -> int:
    """Embeds what the run does not hold yet, and returns 1 if any file failed."""
    from hf_mathrock.library.embedding import EmbeddingRun, MixedSpacesError, embed_files
    from hf_mathrock.library.scan import scan

    found = scan(args.paths)
    if not found.files:
        for path, error in found.errors.items():
            say(f"error: {path}: {error}")
        return 1
    given = vars(args)
    model = given.get("model") or DEFAULT_MODEL
    with ProgressBar("loading the model", total=len(found.files)) as bar:
        pipe = load_embedder(model, given, debug=args.debug)
        chunk_seconds = _chunk_seconds(pipe, given)
        options = {"chunk_seconds": chunk_seconds, "num_workers": args.num_workers}
        options |= {"batch_size": args.batch_size} if "batch_size" in given else {}
        try:
            space = pipe.space(chunk_seconds)
            stored = EmbeddingRun(args.out, space, checkpoint_of(model))
        except MixedSpacesError as mixed:
            raise UsageError(f"{mixed}; or give another --out") from mixed
        except ValueError as refused:
            raise UsageError(str(refused)) from refused
        new = [file for file in found.files if not stored.holds(file)]
        num_held = len(found.files) - len(new)
        for path, refusal in found.errors.items():
            bar.say(f"error: {path}: {refusal}")
        num_failed, silent = 0, []
        with stored:
            folders = [path for path in args.paths if os.path.isdir(path)]
            for done, record in enumerate(embed_files(pipe, new, folders, **options), start=1):
                bar.show(Path(record["file"]).name, num_held + done)
                stored.write(record)
                if (problem := record.get("error")) is not None:
                    num_failed += 1
                    bar.say(f"error: {problem}" if record["file"] in problem else f"error: {record['file']}: {problem}")
                elif record["embedding"] is None:
                    silent.append(record["file"])
    for file in silent:
        say(f"note: {file} is silent and has no embedding")
    held = f", {num_held} were there already" if num_held else ""
    say(f"wrote {args.out}: {len(new) - num_failed - len(silent)} new embedding(s){held}")
    num_failed += len(found.errors)
    if num_failed:
        say(f"{num_failed} of {len(found.files) + len(found.errors)} failed")
    return 1 if num_failed else 0


def load_embedder(model: str, given: dict[str, Any], *, debug: bool) -> Any:
    """A `music-embedding` pipeline.

    Args:
        model: As the user gave it.
        given: Of these `device` and `revision` are passed on.
        debug: Let the libraries speak.

    Raises:
        UsageError: It cannot be used.
    """
    options = {name: given[name] for name in ("device", "revision") if given.get(name) is not None}
    return load_pipeline(model, options, task="music-embedding", debug=debug)


def checkpoint_of(model: str) -> dict[str, str]:
    """Where a model is, as a run notes it down: its folder, or its name in the package or on the Hub."""
    return {"folder": model} if resolve(model) == model and os.path.isdir(model) else {"name": model}


def _chunk_seconds(pipe: Any, given: dict[str, Any]) -> float | None:
    how, length = given.get("how"), given.get("chunk_seconds")
    if how == "whole" and length is not None:
        raise UsageError("--how whole has no chunks; leave --chunk-seconds out, or say --how chunks")
    if pipe.hears_whole_tracks:
        return (length or CHUNK_SECONDS) if how == "chunks" or length is not None else None
    if how == "whole":
        raise UsageError(
            f"{pipe.model_card['name']} hears {pipe.feature_extractor.window_seconds:g} s at a time, not whole songs; "
            "say --how chunks, or give --model an encoder of whole songs"
        )
    return length
