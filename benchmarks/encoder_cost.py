# SPDX-License-Identifier: Apache-2.0
"""What a Myna embedding costs: time and memory against the length of the track, from 3 seconds to an hour."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from encoder_point import PATCHOUT_SHARE, STRETCH_TOKENS
from material import write_song
from timing import last_json_line, run_python, table

LENGTHS = {
    "3 s": 3.0,
    "30 s": 30.0,
    "1 min": 60.0,
    "4 min": 240.0,
    "60 min": 3600.0,
}
QUICK_LENGTHS = {"1 s": 1.0, "3 s": 3.0, "10 s": 10.0}
# Way → name in the table, and the power of the length with which its cost grows.
WAYS = {
    "whole": ("whole, in blocks", 2),
    "flex_attention": ("whole, flex", 2),
    "eager": ("whole, eager", 2),
    "materialised": ("bias of all pairs", 2),
    "patchout": (f"{PATCHOUT_SHARE:.0%} of the tokens, 4 times", 2),
    "two_level": ("minute by minute", 1),
    "default": ("as configured", 1),
    "none": ("whole, no positions", 2),
}
ALL_PAIRS = ("eager", "materialised")
SAME = ("whole", "flex_attention", "eager", "materialised")  # one embedding, computed in four ways
FILES = {"song.mp3": 240.0, "song.flac": 240.0, "mix.flac": 3600.0}
TITLES = {240.0: "4 minutes", 3600.0: "1 hour"}
LONGEST_EXPECTED_SECONDS, MOST_EXPECTED_BYTES = 200.0, 6e9
REFERENCE_LENGTH = "4 min"
MAX_PEAK_BYTES, MIN_MEMORY_RATIO = 1.2e9, 5.0

Run = Callable[..., dict[str, Any]]


def run_point(*arguments: str) -> dict[str, Any]:
    """What a fresh process measures; see `encoder_point.py`."""
    _, output = run_python(str(Path(__file__).with_name("encoder_point.py")), *arguments)
    return last_json_line(output)


def save_encoder(folder: Path, fields: Mapping[str, Any]) -> dict[str, Any]:
    """Save an encoder with random weights and its extractor; returns its facts."""
    import torch

    from hf_mathrock import MynaConfig, MynaFeatureExtractor, MynaModel

    torch.manual_seed(0)
    model = MynaModel(MynaConfig(**fields))
    model.save_pretrained(folder)
    MynaFeatureExtractor.for_config(model.config).save_pretrained(folder)
    return {
        "num_parameters": sum(parameter.numel() for parameter in model.parameters()),
        "hop_seconds": 1 / model.config.frames_per_second,
        "tokens_per_second": model.config.tokens_per_second,
        "max_tokens": model.config.max_tokens,
        "patchout_seeds": model.config.patchout_seeds,
    }


def expected_cost(way: str, points: Mapping[str, Any], seconds: float) -> tuple[float, float]:
    """Seconds and bytes that a length should need, by the longest one that was measured; zeros before the first."""
    measured = [point for point in points.values() if "seconds" in point]
    if not measured:
        return 0.0, 0.0
    growth = seconds / measured[-1]["audio_seconds"]
    of_memory = 2 if way in ALL_PAIRS else 1
    return measured[-1]["seconds"] * growth ** WAYS[way][1], measured[-1]["additional_bytes"] * growth**of_memory


def left_out(way: str, points: Mapping[str, Any], seconds: float, num_tokens: float, max_tokens: int) -> str | None:
    """Why a point is not measured, or `None`."""
    if way == "default" and num_tokens <= max_tokens:
        return "whole"
    expected_seconds, expected_bytes = expected_cost(way, points, seconds)
    if expected_bytes > MOST_EXPECTED_BYTES:
        return f"about {expected_bytes / 1e9:.0f} GB"
    if expected_seconds > LONGEST_EXPECTED_SECONDS:
        return f"about {expected_seconds / 60:.0f} min"
    return None


def measure(folder: Path, quick: bool, fields: Mapping[str, Any] | None = None, run: Run = run_point) -> dict[str, Any]:
    """Every way at every length, the ways of a length one after the other; and whole files.

    Args:
        folder: For the checkpoint and the songs.
        quick: Seconds instead of hours.
        fields: Of `MynaConfig`; `None`: its defaults, ViT-S.
        run: What measures a point.
    """
    checkpoint = folder / "encoder"
    facts = save_encoder(checkpoint, fields or {})
    lengths = QUICK_LENGTHS if quick else LENGTHS
    points: dict[str, dict[str, Any]] = {way: {} for way in WAYS}
    for length, seconds in lengths.items():
        num_frames = 1 + round(seconds / facts["hop_seconds"])
        for way in WAYS:
            num_tokens = seconds * facts["tokens_per_second"]
            if reason := left_out(way, points[way], seconds, num_tokens, facts["max_tokens"]):
                points[way][length] = {"left_out": reason}
                continue
            measured = run("forward", str(checkpoint), way, str(num_frames))
            points[way][length] = {"audio_seconds": seconds, "num_tokens": round(num_tokens), **measured}
    files = {}
    for name, seconds in {"song.mp3": 5.0}.items() if quick else FILES.items():
        path = write_song(folder / name, seconds)
        ways = (
            ("patchout", "two_level") if seconds * facts["tokens_per_second"] > facts["max_tokens"] else ("patchout",)
        )
        for way in ways:
            measured = run("file", str(checkpoint), way, str(path))
            files[f"{name}, {way}"] = {
                "audio_seconds": seconds,
                "kind": path.suffix[1:].upper(),
                "file_bytes": path.stat().st_size,
                **measured,
            }
        path.unlink()
    return {
        **facts,
        "lengths": lengths,
        "points": points,
        "files": files,
        "ratios": ratios(points),
        "difference": largest_difference(points),
    }


def ratios(points: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    """By length, where all of it was measured: how many times the time and memory of "whole" the bias of all pairs
    needs, and what either adds to the memory of the same encoder without positions, in bytes."""
    found = {}
    for length in points["whole"]:
        ours, theirs, without = (points[way][length] for way in ("whole", "materialised", "none"))
        if all("seconds" in point for point in (ours, theirs, without)):
            found[length] = {
                "memory": theirs["additional_bytes"] / ours["additional_bytes"],
                "seconds": theirs["seconds"] / ours["seconds"],
                "bytes_of_blocks": ours["additional_bytes"] - without["additional_bytes"],
                "bytes_of_all_pairs": theirs["additional_bytes"] - without["additional_bytes"],
            }
    return found


def largest_difference(points: Mapping[str, Mapping[str, Any]]) -> float:
    """Between the embeddings of ways that should agree, over all lengths."""
    largest = 0.0
    for length in points["whole"]:
        embeddings = [points[way][length]["embedding"] for way in SAME if "embedding" in points[way][length]]
        largest = max([largest, *(max(numbers) - min(numbers) for numbers in zip(*embeddings, strict=True))])
    return largest


def _cell(point: Mapping[str, Any], figure: str) -> str:
    if "left_out" in point:
        return f"*{point['left_out']}*"
    if figure == "memory":
        return f"{point['additional_bytes'] / 1e6:,.0f} MB"
    return f"{point['seconds']:.2f} s" if point["seconds"] < 10 else f"{point['seconds']:.0f} s"


def _curves(result: Mapping[str, Any], figure: str) -> str:
    header = ["length", "tokens", *(name for name, _ in WAYS.values()), "all pairs : blocks"]
    rows = []
    for length, seconds in result["lengths"].items():
        ratio = result["ratios"].get(length)
        rows.append(
            [
                length,
                f"{seconds * result['tokens_per_second']:,.0f}",
                *(_cell(result["points"][way][length], figure) for way in WAYS),
                f"**{ratio[figure]:.1f}**" if ratio else "",
            ]
        )
    return table(header, rows)


def _of_bias(result: Mapping[str, Any]) -> str:
    """What positions alone cost, at the length that the aim is for or the longest one measured."""
    if not result["ratios"]:
        return "The bias of all pairs was not measured."
    length = REFERENCE_LENGTH if REFERENCE_LENGTH in result["ratios"] else list(result["ratios"])[-1]
    ratio = result["ratios"][length]
    return (
        f"At {length} the bias adds {ratio['bytes_of_blocks'] / 1e6:,.0f} MB in blocks and "
        f"{ratio['bytes_of_all_pairs'] / 1e6:,.0f} MB as that of all pairs; all that is held beside the model is "
        f"{ratio['memory']:.1f} times less. Aim: {MIN_MEMORY_RATIO:g} times less than the bias of all pairs."
    )


def render(result: dict[str, Any]) -> str:
    """The section of BENCHMARKS.md."""
    files = [
        [
            f"{TITLES.get(row['audio_seconds'], '{:g} s'.format(row['audio_seconds']))}, {row['kind']}",
            f"{row['file_bytes'] / 1e6:.0f} MB",
            row["mode"],
            f"{row['loaded_bytes'] / 1e6:.0f} MB",
            f"**{row['peak_bytes'] / 1e6:,.0f} MB**",
            f"{row['extractor']:.1f} s",
            f"{row['encoder']:.1f} s",
        ]
        for row in result["files"].values()
    ]
    return "\n\n".join(
        [
            "## Whole tracks: time and memory against length",
            f"Myna of {result['num_parameters'] / 1e6:.1f} M parameters, float32, random weights, from a "
            f"spectrogram of {1 / result['hop_seconds']:g} frames a second ({result['tokens_per_second']:g} tokens) to "
            "one embedding. One fresh process per figure, the ways of a length one after the other; the median of up "
            f"to five runs after a warm-up. 'As configured' is whole up to {result['max_tokens']:,} tokens, and beyond "
            f"it {result['patchout_seeds']} selections of so many; 'minute by minute' hears stretches of up to "
            f"{STRETCH_TOKENS} tokens. The bias of all pairs is made as in the public code of Myna with relative "
            "positions (distances along both axes, their sum, a copy per head), with the slopes that are missing "
            f"there. The first four give the same embedding (to {result['difference']:.0e}). In italics: not measured, "
            "and what it would have needed.",
            "![Time and memory against length](docs/encoder_cost.png)",
            "Resident memory at its highest, beyond what the process held before:",
            _curves(result, "memory"),
            _of_bias(result),
            "Time:",
            _curves(result, "seconds"),
            "A fresh process from a stereo file to its embedding, everything included (interpreter, libraries, model, "
            f"decoding). Aim: below {MAX_PEAK_BYTES / 1e6:,.0f} MB for 4 minutes, and an hour without failing.",
            table(["file", "size", "heard", "after loading", "peak", "decoding and spectrogram", "encoder"], files),
        ]
    )


def draw(result: Mapping[str, Any], folder: Path) -> None:
    """The picture beside the tables, `encoder_cost.png` in this folder."""
    from hf_mathrock.report.costs import draw_costs

    curves = {
        name: [point for point in result["points"][way].values() if "seconds" in point]
        for way, (name, _) in WAYS.items()
        if way != "none"
    }
    draw_costs(
        {name: points for name, points in curves.items() if points},
        result["lengths"],
        folder / "encoder_cost.png",
    )
