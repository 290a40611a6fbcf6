# SPDX-License-Identifier: Apache-2.0
"""Plays a MIDI file through FluidSynth and a General MIDI SoundFont: a second band, never trained on.

Needs the `fluidsynth` command and a SoundFont; on Debian and Ubuntu `apt-get install fluidsynth timgm6mb-soundfont`
(6 MB, GPL-2) or `fluid-soundfont-gm` (148 MB, MIT).
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import soundfile

_INSTALL = "install them (Debian: apt-get install fluidsynth timgm6mb-soundfont) or name a SoundFont file"
_KNOWN = ("FluidR3_GM.sf2", "TimGM6mb.sf2", "default-GM.sf2", "GeneralUser-GS.sf2", "GeneralUser GS.sf2")
_FOLDERS = (
    "share/sounds/sf2",
    "share/sounds/sf3",
    "share/soundfonts",
    "local/share/soundfonts",
    "local/share/sounds/sf2",
)


def find_soundfont() -> Path | None:
    """First General MIDI SoundFont found: the file in the variable SOUNDFONT, then the usual system folders."""
    named = os.environ.get("SOUNDFONT")
    if named and Path(named).is_file():
        return Path(named)
    return next((path for path in _candidates() if path.is_file()), None)


def _candidates() -> Iterator[Path]:
    command = shutil.which("fluidsynth")
    roots = [Path("/usr")] + ([Path(command).parent.parent] if command else [])
    folders = [root / folder for root in roots for folder in _FOLDERS]
    for name in _KNOWN:
        yield from (folder / name for folder in folders)
    for folder in folders:
        yield from sorted(folder.glob("*.sf[23]"))


def render_soundfont(
    midi_path: str | os.PathLike[str],
    *,
    soundfont: str | os.PathLike[str] | None = None,
    sampling_rate: int = 44_100,
    gain: float = 0.5,
    duration: float | None = None,
) -> np.ndarray:
    """Render a MIDI file with FluidSynth's default reverb and chorus.

    Args:
        midi_path: Standard MIDI file.
        soundfont: SoundFont 2 or 3 file; `None` looks for one (see `find_soundfont`).
        sampling_rate: Samples per second, 8000 to 96000.
        gain: FluidSynth's master gain; lowered until nothing clips.
        duration: Cut or pad to this many seconds; `None` keeps the reverb tail after the last note.

    Returns:
        float32 samples, (2, num_samples), within +-1.

    Raises:
        FileNotFoundError: The MIDI file or the named SoundFont does not exist.
        RuntimeError: FluidSynth or any SoundFont is missing, or FluidSynth failed.
    """
    midi_path = Path(midi_path)
    if not midi_path.is_file():
        raise FileNotFoundError(f"{midi_path} is not a file; give a standard MIDI file")
    command = shutil.which("fluidsynth")
    bank = Path(soundfont) if soundfont is not None else find_soundfont()
    if bank is not None and not bank.is_file():
        raise FileNotFoundError(f"SoundFont {bank} is not a file; {_INSTALL}")
    if command is None or bank is None:
        missing = "the fluidsynth command" if command is None else "a General MIDI SoundFont"
        raise RuntimeError(f"{missing} was not found; {_INSTALL}")
    with tempfile.TemporaryDirectory() as folder:
        wave = Path(folder) / "out.wav"
        options = ["-ni", "-q", "-r", str(sampling_rate), "-g", str(gain), "-O", "float", "-T", "wav", "-F", str(wave)]
        finished = subprocess.run(
            [command, *options, str(bank), str(midi_path)], capture_output=True, text=True, check=False
        )
        if finished.returncode or not wave.is_file():
            reason = (finished.stderr or finished.stdout).strip().splitlines()
            raise RuntimeError(f"fluidsynth could not play {midi_path}: {reason[-1] if reason else 'no message'}")
        audio = soundfile.read(wave, dtype="float32", always_2d=True)[0].T
    if duration is not None:
        num_samples = round(duration * sampling_rate)
        audio = np.pad(audio[:, :num_samples], [(0, 0), (0, max(0, num_samples - audio.shape[1]))])
    # Float output keeps what exceeds full scale; scaling it afterwards is the same as a lower gain.
    peak = float(np.abs(audio).max(initial=0.0))
    return np.ascontiguousarray(audio / np.float32(max(1.0, peak / 0.99)))
