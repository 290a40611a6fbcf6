# SPDX-License-Identifier: Apache-2.0
"""The published MTT_musicnn, converted: a clip's file to its tags, beside what the original package needs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from timing import REST, Stage, run_in_stages, spread, summarise_runs, table

SHARED = Path(__file__).parents[2] / "shared"
WEIGHTS = SHARED / "reference" / "musicnn" / "MTT_musicnn.safetensors"
CLIP = SHARED / "audio" / "joram-solipsism-30s.mp3"
# What musicnn 0.1 says of it, best first.
TAGS = ["techno", "electronic", "synth", "fast", "beat", "drums", "no vocals", "no vocal", "dance", "ambient"]
NUM_ROUNDS = 25
# Of one call of musicnn's own path for this clip, TensorFlow 2.21 on two such cores.
ORIGINAL_SECONDS = 0.92
MIN_RATIO, MIN_SPEED = 3, 100  # times as fast, and seconds of audio a second


def absent() -> str | None:
    """Why this part cannot be measured here; `None`: it can."""
    missing = [str(path) for path in (WEIGHTS, CLIP) if not path.is_file()]
    return f"{' and '.join(missing)} are not here" if missing else None


def measure(folder: Path, quick: bool) -> dict[str, Any]:
    """Seconds per stage of tagging the clip with the defaults of the pipeline.

    Raises:
        RuntimeError: The tags are not the published ones.
    """
    from transformers import pipeline

    import hf_mathrock  # noqa: F401  (registers the pipeline)
    from hf_mathrock.conversion.musicnn import convert_musicnn
    from hf_mathrock.models import audio_input, audio_reading, audio_windows, modeling_musicnn
    from hf_mathrock.models.feature_extraction_music_tagging import MusicTaggingFeatureExtractor

    convert_musicnn(WEIGHTS, folder / "MTT_musicnn")
    pipe = pipeline("music-tagging", model=str(folder / "MTT_musicnn"))
    result = pipe(str(CLIP), top_k=len(TAGS), return_taggram=True)
    if (found := [tag["label"] for tag in result["tags"]]) != TAGS:
        raise RuntimeError(f"The tags are {', '.join(found)}; published are {', '.join(TAGS)}.")
    stages = [
        Stage("decode", audio_reading.SoundFileReader, "blocks"),
        Stage("resample", audio_windows.ResampledTrack, "push"),
        Stage("down-mix, check, cut", audio_input, "cut_windows"),
        Stage("spectrograms", MusicTaggingFeatureExtractor, "featurize"),
        Stage("front end", modeling_musicnn.MusicnnBranch, "forward"),
        Stage("the other layers", modeling_musicnn.MusicnnModel, "embed"),
    ]
    runs = [run_in_stages(lambda: pipe(str(CLIP), top_k=len(TAGS)), stages) for _ in range(1 if quick else NUM_ROUNDS)]
    return {
        "audio_seconds": result["duration"],
        "num_windows": len(result["taggram"]["start"]),
        "num_rounds": len(runs),
        "num_parameters": sum(parameter.numel() for parameter in pipe.model.parameters()),
        **summarise_runs(runs),
    }


def render(result: dict[str, Any]) -> str:
    """The section of BENCHMARKS.md."""
    seconds, median = result["audio_seconds"], result["median"]
    rows = [
        ["the original package", f"{ORIGINAL_SECONDS:.2f} s", "1.0", f"{seconds / ORIGINAL_SECONDS:.0f}"],
        ["ours", spread(result, 3), f"**{ORIGINAL_SECONDS / median:.1f}**", f"**{seconds / median:.0f}**"],
    ]
    parts = [
        [stage, f"{1e3 * part:.0f} ms", f"{100 * part / median:.0f} %"] for stage, part in result["stages"].items()
    ]
    return "\n\n".join(
        [
            "## The published MTT_musicnn, converted",
            f"{result['num_parameters'] / 1e6:.2f} M parameters, float32; an MP3 of {seconds:.1f} s "
            f"(`{CLIP.name}`) to its ten best tags, which are the published ones in the published order; "
            f"{result['num_windows']} patches of 187 frames, {result['num_rounds']} warm rounds of "
            '`pipeline("music-tagging")`. The original package\'s figure is its own call for this clip, with '
            f"TensorFlow 2.21 on two such cores. Aim: {MIN_RATIO} times as fast, and {MIN_SPEED} seconds of audio a "
            "second.",
            table(["", "median (min–max)", "times as fast", "seconds of audio a second"], rows),
            f"Where the time goes; {REST!r} is scores and their ranking.",
            table(["stage", "", "share"], parts),
        ]
    )
