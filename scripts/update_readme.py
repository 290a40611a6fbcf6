# SPDX-License-Identifier: Apache-2.0
"""Fills the README's slots with what this code says: the table and result of the example clips, the figures of the
embedded checkpoint, the speed, and the pictures. Run it after `benchmarks/quality.py` and `make benchmark`.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from hf_mathrock.model_card import calibration_note, figures, recordings, write_card

ROOT = Path(__file__).resolve().parents[1]
CHECKPOINT = ROOT / "src" / "hf_mathrock" / "checkpoints" / "mathrock-tiny"
PICTURED = "long-exposure"
EXPLAINED = ("tapping-in-seven", "surprise", "tempo/fast")


def run(*arguments: str) -> str:
    """What the installed command prints, as a stranger's terminal of 110 columns would show it."""
    command = [str(Path(sys.executable).with_name("hf-mathrock")), *arguments]
    done = subprocess.run(
        command, capture_output=True, text=True, check=True, cwd=ROOT, env=os.environ | {"COLUMNS": "110"}
    )
    return done.stdout


def draw_pictures() -> None:
    """A timeline and an explanation of clips of the repository."""
    clip, *tags = EXPLAINED
    (ROOT / "docs").mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        run("tag", f"examples/audio/{PICTURED}.ogg", "--out", folder, "--timeline")
        shutil.copyfile(Path(folder) / f"{PICTURED}.png", ROOT / "docs" / "timeline.png")
        run("explain", f"examples/audio/{clip}.ogg", "--tags", *tags, "--whole", "--out", folder)
        shutil.copyfile(Path(folder) / "explanation.png", ROOT / "docs" / "explanation.png")


def table() -> str:
    """The clips of the repository on the screen."""
    lines = [line.rstrip() for line in run("tag", "examples/audio").splitlines()]
    return "```console\n$ hf-mathrock tag examples/audio\n" + "\n".join(lines).strip("\n") + "\n```"


def result() -> str:
    """One clip's result, best labels only."""
    record = json.loads(run("tag", f"examples/audio/{PICTURED}.ogg", "--json", "--top-k", "1"))
    text = json.dumps(record, indent=1)
    # A row of numbers on one line.
    text = re.sub(r"\[\s+([-\d.,\s]+?)\s+\]", lambda found: f"[{re.sub(chr(92) + 's+', ' ', found[1])}]", text)
    return f"```json\n{text}\n```"


def speed() -> str:
    """One line from the benchmark's results."""
    results = json.loads((ROOT / "benchmarks" / "results.json").read_text())
    tiny, full, heads, musicnn = (results[name] for name in ("tiny", "full", "heads", "musicnn"))
    default = tiny["batch_sizes"][str(tiny["default_batch_size"])]
    longest = list(results["memory"]["files"].values())[-1]
    heard = tiny["audio_seconds"] / default["median"]
    float32, bfloat16 = (full[name]["ratio"] for name in ("float32", "bfloat16"))
    return (
        f"On two CPU cores the embedded checkpoint hears {heard:.0f} seconds of audio a second, and a file of three "
        f"hours needs {longest['peak_bytes'] / 1e6:.0f} MB. With full-size backbones a song is tagged "
        f"{float32:.2f} times as fast as by the reference's wiring in float32, with the same scores, and "
        f"{bfloat16:.2f} times in bfloat16. "
        f"Heads are tuned on {heads['num_clips']} clips in {heads['epoch']['median']:.1f} seconds an epoch, once the "
        f"backbones have heard them in {heads['embedding']:.0f}. "
        f"The converted MTT_musicnn tags a clip of {musicnn['audio_seconds']:.0f} s in {musicnn['median']:.2f} s, "
        f"{musicnn['audio_seconds'] / musicnn['median']:.0f} times real time. "
        f"`import hf_mathrock` takes {1e3 * results['startup']['import']['median']:.0f} ms."
    )


def main() -> None:
    draw_pictures()
    results = json.loads((CHECKPOINT / "results.json").read_text())
    calibration = json.loads((CHECKPOINT / "calibration.json").read_text())
    slots = {
        "table": table(),
        "result": result(),
        "figures": "\n\n".join([figures(results), calibration_note(results, calibration), recordings(results)]),
        "speed": speed(),
    }
    text = (ROOT / "README.md").read_text()
    for name, content in slots.items():
        pattern = rf"(<!-- {name}:start -->).*?(<!-- {name}:end -->)"
        text, count = re.subn(
            pattern, lambda match, c=content: f"{match[1]}\n\n{c.strip()}\n\n{match[2]}", text, flags=re.S
        )
        if count != 1:
            raise SystemExit(f"README.md has {count} slots named {name!r}; expected one")
    (ROOT / "README.md").write_text(text)
    write_card(CHECKPOINT)


if __name__ == "__main__":
    main()
