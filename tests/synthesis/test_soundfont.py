# SPDX-License-Identifier: Apache-2.0
"""The second renderer, where FluidSynth is installed, and its advice where it is not."""

from __future__ import annotations

import shutil
from pathlib import Path

import mido
import numpy as np
import pytest

from hf_mathrock.synthesis import soundfont
from hf_mathrock.synthesis.soundfont import find_soundfont, render_soundfont

needs_fluidsynth = pytest.mark.skipif(
    shutil.which("fluidsynth") is None or find_soundfont() is None,
    reason="needs the fluidsynth command and a General MIDI SoundFont (apt-get install fluidsynth timgm6mb-soundfont)",
)


@pytest.fixture
def midi_file(tmp_path: Path) -> Path:
    """An A4 on a flute for one second, half a second in."""
    file = mido.MidiFile(ticks_per_beat=480)
    track = mido.MidiTrack()
    track.append(mido.Message("program_change", program=73, time=0))
    track.append(mido.Message("note_on", note=69, velocity=100, time=480))
    track.append(mido.Message("note_off", note=69, velocity=0, time=960))
    file.tracks.append(track)
    file.save(tmp_path / "note.mid")
    return tmp_path / "note.mid"


@needs_fluidsynth
def test_a_note_sounds_at_its_time_and_pitch(midi_file: Path) -> None:
    audio = render_soundfont(midi_file, duration=2.0)
    assert audio.shape == (2, 88_200) and audio.dtype == np.float32
    assert np.abs(audio[:, :20_000]).max() < 0.01 < np.abs(audio[:, 26_000:60_000]).max() <= 1.0
    steady = audio.mean(axis=0)[30_000:60_000]
    spectrum = np.abs(np.fft.rfft(steady * np.hanning(steady.size), 1 << 17))
    strongest = float(np.argmax(spectrum[: 1 << 12]) * 44_100 / (1 << 17))
    assert strongest == pytest.approx(440.0, abs=4.0)


@needs_fluidsynth
def test_the_same_file_gives_the_same_samples(midi_file: Path) -> None:
    assert np.array_equal(render_soundfont(midi_file, duration=1.5), render_soundfont(midi_file, duration=1.5))


@needs_fluidsynth
def test_a_high_gain_is_scaled_not_clipped(midi_file: Path) -> None:
    audio = render_soundfont(midi_file, gain=9.0)
    assert np.abs(audio).max() <= 0.991
    assert np.mean(np.abs(audio) > 0.985) < 0.001


@needs_fluidsynth
def test_a_file_that_is_not_midi_is_named(tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.mid"
    wrong.write_text("not midi")
    with pytest.raises(RuntimeError, match="wrong.mid"):
        render_soundfont(wrong)


def test_a_missing_midi_file_and_soundfont_are_named(midi_file: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere.mid"):
        render_soundfont(tmp_path / "nowhere.mid")
    with pytest.raises(FileNotFoundError, match="none.sf2"):
        render_soundfont(midi_file, soundfont=tmp_path / "none.sf2")


def test_without_fluidsynth_the_error_says_what_to_install(midi_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(soundfont.shutil, "which", lambda command: None)
    with pytest.raises(RuntimeError, match="apt-get install fluidsynth"):
        render_soundfont(midi_file)


def test_the_named_soundfont_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bank = tmp_path / "mine.sf2"
    bank.write_bytes(b"RIFF")
    monkeypatch.setenv("SOUNDFONT", str(bank))
    assert find_soundfont() == bank
