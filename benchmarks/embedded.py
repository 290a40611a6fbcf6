# SPDX-License-Identifier: Apache-2.0
"""The embedded checkpoint: its speed stage by stage, the memory it needs, and how soon it starts."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from material import checkpoint_folder, write_song
from timing import (
    REST,
    last_json_line,
    run_in_stages,
    run_python,
    spread,
    summarise_runs,
    summary,
    table,
    take_turns,
)

SECONDS, NUM_ROUNDS, BATCH_SIZES = 180.0, 7, (1, 4, 8, 16)
MIN_SPEED = 100  # seconds of audio a second
MAX_PEAK_BYTES = 1.5e9
MEMORY_SECONDS = {"3 minutes": 180.0, "3 hours": 10_800.0}
NUM_STARTS = 5
MAX_IMPORT_SECONDS, MAX_HELP_SECONDS = 0.3, 0.5

_IMPORT = """
import time
start = time.perf_counter()
import hf_mathrock
print(f'{{"seconds": {time.perf_counter() - start}}}')
"""
# What the `hf-mathrock` script does.
_COMMAND = "import sys; from hf_mathrock.cli.main import main; sys.exit(main())"


def measure_speed(folder: Path, quick: bool) -> dict[str, Any]:
    """Seconds per stage of tagging an MP3, at several batch sizes in turns."""
    from full_size import STAGES

    from hf_mathrock import MathRockAffectPipeline, MathRockFeatureExtractor, MathRockForAudioClassification
    from hf_mathrock.models.pipeline_recordings import DEFAULT_BATCH_SIZE

    seconds, num_rounds = (15.0, 1) if quick else (SECONDS, NUM_ROUNDS)
    path = write_song(folder / "song.mp3", seconds)
    checkpoint = checkpoint_folder(folder)
    pipe = MathRockAffectPipeline(
        model=MathRockForAudioClassification.from_pretrained(checkpoint),
        feature_extractor=MathRockFeatureExtractor.from_pretrained(checkpoint),
    )

    def tag(batch_size: int) -> dict[str, float]:
        return run_in_stages(lambda: pipe(str(path), batch_size=batch_size), STAGES)

    runs = take_turns({str(size): partial(tag, size) for size in BATCH_SIZES}, num_rounds)
    return {
        "audio_seconds": seconds,
        "num_rounds": num_rounds,
        "num_parameters": sum(parameter.numel() for parameter in pipe.model.parameters()),
        "default_batch_size": DEFAULT_BATCH_SIZE,
        "batch_sizes": {size: summarise_runs(timed) for size, timed in runs.items()},
    }


def render_speed(result: dict[str, Any]) -> str:
    """The section of BENCHMARKS.md."""
    seconds = result["audio_seconds"]
    default = result["batch_sizes"][str(result["default_batch_size"])]
    rows = [
        [
            f"{size} (default)" if int(size) == result["default_batch_size"] else size,
            spread(timed),
            f"{seconds / timed['median']:.0f}",
        ]
        for size, timed in result["batch_sizes"].items()
    ]
    parts = [
        [stage, f"{1e3 * part / seconds:.2f} ms", f"{100 * part / default['median']:.0f} %"]
        for stage, part in default["stages"].items()
    ]
    return "\n\n".join(
        [
            "## The embedded checkpoint: speed",
            f"{result['num_parameters'] / 1e6:.1f} M parameters, float32; a stereo MP3 of {seconds:g} s to its scores, "
            f"windows of 10 s every 5 s; {result['num_rounds']} warm rounds in turns. Aim: {MIN_SPEED} seconds of "
            "audio a second on two cores.",
            table(["windows in a batch", "median (min–max)", "seconds of audio a second"], rows),
            f"Where the time goes in batches of {result['default_batch_size']}; {REST!r} is fusion, heads, scores and "
            "their ranking.",
            table(["stage", "per second of audio", "share"], parts),
        ]
    )


def measure_memory(folder: Path, quick: bool) -> dict[str, Any]:
    """Peak memory of a process that tags a short and a long file."""
    checkpoint = checkpoint_folder(folder)
    files = {}
    for title, seconds in {"15 seconds": 15.0}.items() if quick else MEMORY_SECONDS.items():
        path = write_song(folder / "long.flac", seconds)
        size = path.stat().st_size
        _, output = run_python(str(Path(__file__).with_name("peak_memory.py")), str(checkpoint), str(path))
        files[title] = {"audio_seconds": seconds, "file_bytes": size, **last_json_line(output)}
        path.unlink()
    return {"files": files}


def render_memory(result: dict[str, Any]) -> str:
    """The section of BENCHMARKS.md."""
    rows = [
        [
            title,
            f"{row['file_bytes'] / 1e6:.0f} MB",
            f"{row['loaded_bytes'] / 1e6:.0f} MB",
            f"**{row['peak_bytes'] / 1e6:.0f} MB**",
            f"{row['seconds']:.1f} s",
            f"{row['audio_seconds'] / row['seconds']:.0f}",
        ]
        for title, row in result["files"].items()
    ]
    return "\n\n".join(
        [
            "## The embedded checkpoint: memory",
            "One fresh process per stereo FLAC, which loads the pipeline and tags the file once; resident memory at "
            f"its highest, everything included. Aim: below {MAX_PEAK_BYTES / 1e6:,.0f} MB for 3 hours.",
            table(
                ["length", "file", "after loading", "peak", "tagging, cold", "seconds of audio a second"],
                rows,
            ),
        ]
    )


def measure_startup(folder: Path, quick: bool) -> dict[str, Any]:
    """Seconds of `import hf_mathrock`, `hf-mathrock --help` and a first tag, each in fresh processes."""
    checkpoint = checkpoint_folder(folder)
    clip = write_song(folder / "clip.mp3", 10.0)
    num_starts = 1 if quick else NUM_STARTS
    tag = ("tag", str(clip), "--model", str(checkpoint))
    starts = {
        "import": lambda: {"import": last_json_line(run_python("-c", _IMPORT)[1])["seconds"]},
        "interpreter": lambda: {"interpreter": run_python("-c", "pass")[0]},
        "help": lambda: {"help": run_python("-c", _COMMAND, "--help")[0]},
        "tag": lambda: {"tag": run_python("-c", _COMMAND, *tag)[0]},
    }
    runs = take_turns(starts, num_starts)
    return {
        "num_starts": num_starts,
        **{name: summary([run[name] for run in timed]) for name, timed in runs.items()},
    }


def render_startup(result: dict[str, Any]) -> str:
    """The section of BENCHMARKS.md."""
    titles = {
        "import": ("`import hf_mathrock`, within a process", f"{MAX_IMPORT_SECONDS} s"),
        "interpreter": ("a Python process that does nothing", ""),
        "help": ("`hf-mathrock --help`, whole process", f"{MAX_HELP_SECONDS} s"),
        "tag": ("`hf-mathrock tag clip.mp3` (10 s), whole process", ""),
    }
    rows = [[title, spread(result[name], 3), limit] for name, (title, limit) in titles.items()]
    return "\n\n".join(
        [
            "## Starting",
            f"Fresh processes, {result['num_starts']} of each in turns after one that fills the disk cache.",
            table(["", "median (min–max)", "limit"], rows),
        ]
    )
