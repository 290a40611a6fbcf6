# SPDX-License-Identifier: Apache-2.0
"""The renderer, held to what can be measured: times, pitches, spectra, decays, stereo, chance."""

from __future__ import annotations

from dataclasses import replace

import librosa
import numpy as np
import pytest
import soundfile

from hf_mathrock.synthesis.amplifier import Amplifier, amplify, saturate
from hf_mathrock.synthesis.damage import Damage, encode_and_decode, spoil
from hf_mathrock.synthesis.filters import compress, limit, loudness, minimum_phase_fir
from hf_mathrock.synthesis.mastering import Master, master
from hf_mathrock.synthesis.partials import pitch_to_hz, sum_partials
from hf_mathrock.synthesis.percussion import Drummer, Kit, draw_kit
from hf_mathrock.synthesis.players import Rig, StringPlayer, Touch, humanise
from hf_mathrock.synthesis.renderer import render
from hf_mathrock.synthesis.room import Room, reverberate
from hf_mathrock.synthesis.score import Bar, Chord, DrumHit, Instrument, Labels, Note, Piece, Section, Tone
from hf_mathrock.synthesis.strings import StringTimbre, draw_string, pluck
from hf_mathrock.synthesis.variation import Variation, draw_variation, perform
from hf_mathrock.synthesis.voice import Singer, sing

RATE = 44_100
DRUM_KINDS = (
    "kick",
    "snare",
    "ghost",
    "rim",
    "hat_closed",
    "hat_open",
    "ride",
    "crash",
    "tom_high",
    "tom_mid",
    "tom_low",
)


def small_piece(seconds: float = 4.0, bpm: float = 120.0) -> Piece:
    """Two bars of 4/4: clean arpeggio left, distorted chords right, bass, voice, drums on every beat."""
    beat = 60.0 / bpm
    labels = Labels(["joy"], "technical", "medium", "moderate", 0.5, 0.2)
    beats = np.arange(0.0, seconds - 1e-6, beat).tolist()
    tracks: dict[Instrument, list[Note]] = {
        "guitar_left": [Note(start, beat, 64 + index % 5, 0.8, "tap") for index, start in enumerate(beats)],
        "guitar_right": [
            Note(start, beat, pitch, 0.8, "strum", "distorted") for start in beats for pitch in (45, 52, 57)
        ],
        "bass": [Note(start, beat, 33, 0.8) for start in beats],
        "voice": [Note(start, beat, 60, 0.7, "sung") for start in beats],
    }
    drums = [DrumHit(start, "kick" if index % 2 == 0 else "snare", 0.9) for index, start in enumerate(beats)]
    bars = [Bar(start, start + 4 * beat, (4, 4), beats[i : i + 4]) for i, start in enumerate(beats) if i % 4 == 0]
    section = Section(0.0, seconds, "verse", labels)
    return Piece(
        "small", 3, bpm, 9, "minor", seconds, bars, [section], [Chord(0.0, seconds, 9, "min")], tracks, drums, labels
    )


def player(tuning_cents: float = 0.0, rig: Rig | None = None) -> StringPlayer:
    rig = rig or Rig(StringTimbre(), Amplifier())
    return StringPlayer(rig, Touch(tuning_cents=tuning_cents), RATE, np.random.default_rng(0))


def cents_of(audio: np.ndarray, pitch: float) -> float:
    """Distance of the strongest line near `pitch` from it, in cents, by a parabola through the log spectrum."""
    size = 1 << 18
    spectrum = np.log(np.abs(np.fft.rfft(audio * np.hanning(audio.size), size)) + 1e-12)
    centre = pitch_to_hz(pitch) * size / RATE
    low, high = int(centre * 0.97), int(centre * 1.03)
    top = low + int(np.argmax(spectrum[low:high]))
    left, middle, right = spectrum[top - 1 : top + 2]
    return float(1200 * np.log2((top + 0.5 * (left - right) / (left - 2 * middle + right)) / centre))


def test_same_seed_gives_the_same_samples_and_another_seed_does_not() -> None:
    piece = small_piece()
    first = render(piece, seed=5)
    assert np.array_equal(first, render(piece, seed=5))
    other = render(piece, seed=6)
    size = min(first.shape[1], other.shape[1])
    assert not np.allclose(first[:, :size], other[:, :size], atol=1e-3)


@pytest.mark.parametrize("seed", range(12))
def test_every_recording_is_finite_stereo_float32_within_full_scale_and_not_silent(seed: int) -> None:
    audio = render(small_piece(), seed=seed)
    assert audio.dtype == np.float32
    assert audio.shape[0] == 2
    assert abs(audio.shape[1] - 4 * RATE) <= 0.05 * RATE
    assert np.isfinite(audio).all()
    assert np.abs(audio).max() <= 1.0
    assert loudness(audio, RATE) > 10 ** (-34 / 20)


@pytest.mark.parametrize("rate", [8000, 16_000, 48_000])
def test_other_sampling_rates_keep_the_duration(rate: int) -> None:
    audio = render(small_piece(), sampling_rate=rate, variation=Variation())
    assert audio.shape == (2, 4 * rate)
    assert np.isfinite(audio).all()


def test_a_rate_in_kilohertz_and_an_empty_piece_are_refused() -> None:
    with pytest.raises(ValueError, match="sampling_rate is 44"):
        render(small_piece(), sampling_rate=44)
    with pytest.raises(ValueError, match="nothing to render"):
        render(replace(small_piece(), duration=0.0))


def test_a_track_more_leaves_the_other_players_as_they_were() -> None:
    piece = small_piece()
    plain = replace(Variation(), room=Room(level=0.0), master=Master(ratio=1.0))
    without = replace(piece, tracks={"guitar_left": piece.tracks["guitar_left"]}, drums=[])
    with_bass = replace(without, tracks={**without.tracks, "bass": piece.tracks["bass"]})
    plain = replace(plain, pans={**plain.pans, "guitar_left": -1.0, "bass": 1.0})
    alone, together = (render(p, variation=plain)[0] for p in (without, with_bass))
    assert np.corrcoef(alone, together)[0, 1] > 0.9999


def test_drum_strokes_are_found_at_their_written_times() -> None:
    piece = small_piece(8.0)
    piece = replace(piece, tracks={}, drums=[DrumHit(0.25 + hit.start, hit.kind, hit.velocity) for hit in piece.drums])
    found = 0
    for seed in range(4):
        variation = replace(draw_variation(seed), damage=Damage())
        audio = render(piece, variation=variation, seed=seed).mean(axis=0)
        onsets = librosa.onset.onset_detect(y=audio, sr=RATE, units="time", hop_length=256)
        written = [hit.start for hit in perform(piece, variation).drums]
        found += sum(np.abs(onsets - time).min() <= 0.03 for time in written)
    assert found >= 0.9 * 4 * len(piece.drums)


@pytest.mark.parametrize("pitch", [40, 52, 64, 76])
def test_a_plucked_note_is_in_tune(pitch: int) -> None:
    note = pluck(StringTimbre(detune_cents=0.0), pitch, "pluck", 0.8, 1.5, RATE, np.random.default_rng(1))
    assert abs(cents_of(note, pitch)) < 2.0


def test_the_tuning_of_a_recording_reaches_its_notes() -> None:
    audio = player(tuning_cents=30.0).play([Note(0.0, 1.5, 57, 0.8)], 2 * RATE, 120.0)
    assert cents_of(audio, 57) == pytest.approx(30.0, abs=5.0)


def energy_above(audio: np.ndarray, cutoff_hz: float) -> float:
    power = np.abs(np.fft.rfft(audio)) ** 2
    return float(power[np.fft.rfftfreq(audio.size, 1 / RATE) > cutoff_hz].sum() / power.sum())


def test_each_tone_has_more_high_harmonics_than_the_one_before() -> None:
    notes = [Note(0.0, 1.0, 45, 0.8), Note(0.0, 1.0, 52, 0.8)]
    tones: tuple[Tone, ...] = ("clean", "crunch", "distorted")
    clean, crunch, distorted = (
        energy_above(player().play([replace(note, tone=tone) for note in notes], RATE, 120.0), 1500.0) for tone in tones
    )
    assert 1.5 * clean < crunch
    assert 1.5 * crunch < distorted


def test_a_distorted_chord_intermodulates() -> None:
    """Two strings a fifth apart make a tone at their difference that neither holds: the valve stage is shared."""
    times = np.arange(RATE) / RATE
    low, high = (0.1 * np.sin(2 * np.pi * hz * times).astype(np.float32) for hz in (660.0, 880.0))
    amp = Amplifier(cabinet_low_hz=65.0)

    def at_difference(audio: np.ndarray) -> float:
        return float(np.abs(np.fft.rfft(audio[RATE // 4 :] * np.hanning(audio.size - RATE // 4)))[165])

    together = at_difference(amplify(low + high, amp, "distorted", RATE))
    apart = at_difference(amplify(low, amp, "distorted", RATE) + amplify(high, amp, "distorted", RATE))
    assert together > 20 * apart


def test_the_waveshaper_aliases_less_than_a_bare_curve() -> None:
    tone = np.sin(2 * np.pi * 5001.0 * np.arange(RATE) / RATE).astype(np.float32)
    bare = (20.0 * tone) / np.sqrt(1.0 + (20.0 * tone) ** 2)

    def inharmonic(audio: np.ndarray) -> float:
        power = np.abs(np.fft.rfft(audio)) ** 2
        harmonic = np.zeros(power.size, bool)
        for order in range(1, 5):
            harmonic[order * 5001 - 2 : order * 5001 + 3] = True
        return float(power[~harmonic].sum() / power.sum())

    assert inharmonic(saturate(tone, 20.0)) < 0.5 * inharmonic(bare)


def test_a_palm_mute_dies_sooner_and_is_darker_than_an_open_note() -> None:
    rng = np.random.default_rng
    open_note, muted = (pluck(StringTimbre(), 45, kind, 0.8, 1.0, RATE, rng(0)) for kind in ("pluck", "palm_mute"))

    def late_share(audio: np.ndarray) -> float:
        return float(np.square(audio[int(0.3 * RATE) :]).sum() / np.square(audio).sum())

    assert late_share(muted) < 0.05 * late_share(open_note)
    assert energy_above(muted, 2000.0) < energy_above(open_note, 2000.0)


def test_a_strum_is_spread_but_stays_within_twenty_milliseconds() -> None:
    chord = [Note(1.0, 1.0, pitch, 0.8, "strum") for pitch in (40, 47, 52, 56, 59, 64)]
    starts = [note.start for note in humanise(chord, Touch(strum_seconds=0.008), 120.0, np.random.default_rng(0))]
    assert 0.015 < max(starts) - min(starts) <= 0.0201
    assert np.mean(starts) == pytest.approx(1.0, abs=1e-9)


def test_a_held_tremolo_note_is_repicked_and_short_strokes_are_not() -> None:
    held = [Note(0.0, 2.0, 64, 0.8, "tremolo")]
    strokes = humanise(held, Touch(), 120.0, np.random.default_rng(0))
    assert len(strokes) == 24  # six a beat
    short = [Note(0.1 * index, 0.1, 64, 0.8, "tremolo") for index in range(5)]
    assert len(humanise(short, Touch(), 120.0, np.random.default_rng(0))) == 5


@pytest.mark.parametrize("tone", ["clean", "distorted"])
def test_a_quiet_section_stays_quieter_through_any_amplifier(tone: Tone) -> None:
    notes = [Note(0.5 * i, 0.45, 45 + i % 3, 0.3 if i < 12 else 0.9, "pluck", tone) for i in range(24)]
    for seed in range(4):
        audio = player(rig=draw_variation(seed).guitar_left).play(notes, 12 * RATE, 120.0)
        assert loudness(audio[: 5 * RATE], RATE) < 0.6 * loudness(audio[7 * RATE :], RATE)


@pytest.mark.parametrize("machine", [False, True])
@pytest.mark.parametrize("kind", DRUM_KINDS)
def test_every_drum_sounds_in_its_register(kind: str, machine: bool) -> None:
    drummer = Drummer(Kit(machine=machine), RATE, np.random.default_rng(0))
    audio = drummer.play([DrumHit(0.0, kind, 0.9)], RATE, 0.0, 0.0).mean(axis=0)  # type: ignore[arg-type]
    centroid = float(librosa.feature.spectral_centroid(y=audio[: RATE // 4], sr=RATE).mean())
    assert np.abs(audio).max() > 0.1
    if kind.startswith(("hat", "crash", "ride")):
        assert energy_above(audio, 2500.0) > 0.5
    elif kind == "kick" or kind.startswith("tom"):
        assert energy_above(audio, 1000.0) < 0.1
    else:
        assert 300.0 < centroid < 9000.0


def test_a_closed_hat_chokes_an_open_one() -> None:
    kit = draw_kit(np.random.default_rng(1))

    def tail(hits: list[DrumHit]) -> float:
        audio = Drummer(kit, RATE, np.random.default_rng(0)).play(hits, RATE, 0.0, 0.0)
        return float(np.square(audio[:, int(0.3 * RATE) :]).sum())

    open_hat = DrumHit(0.0, "hat_open", 0.9)
    assert tail([open_hat, DrumHit(0.15, "hat_closed", 0.05)]) < 0.2 * tail([open_hat])


def test_a_ghost_is_softer_than_a_snare_of_equal_velocity() -> None:
    levels = []
    for kind in ("ghost", "snare"):
        drummer = Drummer(Kit(), RATE, np.random.default_rng(0))
        levels.append(float(np.square(drummer.play([DrumHit(0.0, kind, 0.5)], RATE, 0.0, 0.0)).sum()))  # type: ignore[arg-type]
    assert levels[0] < 0.5 * levels[1]


def test_a_sung_note_reaches_its_pitch_and_glides_from_the_last() -> None:
    notes = [Note(0.0, 1.0, 57, 0.8, "sung"), Note(1.0, 1.0, 64, 0.8, "sung")]
    audio = sing(notes, Singer(vibrato_cents=0.0, breath=0.02), 2 * RATE, RATE, np.random.default_rng(0))
    pitch, _, _ = librosa.pyin(audio, fmin=150, fmax=500, sr=RATE)
    midi = librosa.hz_to_midi(pitch)
    middle = midi[int(0.3 * midi.size) : int(0.45 * midi.size)]
    end = midi[int(0.8 * midi.size) : int(0.9 * midi.size)]
    assert np.nanmedian(middle) == pytest.approx(57, abs=0.3)
    assert np.nanmedian(end) == pytest.approx(64, abs=0.3)


def test_the_guitars_stand_on_their_sides_and_a_mono_master_has_none() -> None:
    piece = small_piece()
    dry = replace(Variation(), room=Room(level=0.0))
    left = render(replace(piece, tracks={"guitar_left": piece.tracks["guitar_left"]}, drums=[]), variation=dry)
    assert np.square(left[0]).sum() > 4 * np.square(left[1]).sum()
    mono = render(piece, variation=replace(dry, master=Master(width=0.0)))
    assert np.array_equal(mono[0], mono[1])


def test_the_room_adds_a_tail_that_decays_and_differs_between_sides() -> None:
    click = np.zeros(2 * RATE, np.float32)
    click[0] = 1.0
    tail = reverberate(click, Room(seconds=1.0, level=0.5), RATE, np.random.default_rng(0))
    early, late = (np.square(tail[:, begin : begin + RATE // 5]).sum() for begin in (RATE // 10, RATE // 2))
    assert 10 * np.log10(early / late) == pytest.approx(24.0, abs=7.0)  # 60 dB a second for 0.4 s, highs faster
    assert abs(np.corrcoef(tail)[0, 1]) < 0.5


def test_the_sum_of_partials_equals_its_definition() -> None:
    rng = np.random.default_rng(0)
    frequencies, amplitudes, rates = rng.uniform(50, 5000, 20), rng.standard_normal(20), rng.uniform(0, 20, 20)
    times = np.arange(10_007)[:, None] / RATE
    wanted = (amplitudes * np.exp(-rates * times) * np.sin(2 * np.pi * frequencies * times)).sum(axis=1)
    assert np.allclose(sum_partials(frequencies, amplitudes, rates, 10_007, RATE), wanted, atol=2e-5)


def test_the_minimum_phase_filter_has_the_drawn_response_and_an_early_centre() -> None:
    response = minimum_phase_fir([50.0, 200.0, 1000.0, 8000.0], [-12.0, 0.0, 6.0, -10.0], RATE, 1024)
    gains_db = 20 * np.log10(np.abs(np.fft.rfft(response, RATE)))
    assert gains_db[[200, 1000, 8000]] == pytest.approx([0.0, 6.0, -10.0], abs=0.5)
    assert np.square(response[:64]).sum() > 0.9 * np.square(response).sum()


def test_the_compressor_halves_what_lies_above_its_threshold_and_leaves_the_rest() -> None:
    times = np.arange(RATE) / RATE
    tone = np.sin(2 * np.pi * 1000 * times).astype(np.float32)
    loud, soft = (compress(gain * tone, RATE, -20.0, 2.0)[RATE // 2 :] for gain in (1.0, 0.01))
    assert 20 * np.log10(np.sqrt(2) * np.sqrt(np.mean(loud**2))) == pytest.approx(-8.5, abs=0.7)
    assert np.allclose(soft, 0.01 * tone[RATE // 2 :], atol=1e-6)


def test_the_limiter_keeps_the_ceiling_and_passes_quiet_audio_untouched() -> None:
    noise = np.random.default_rng(0).standard_normal((2, RATE)).astype(np.float32)
    assert np.abs(limit(noise, RATE)).max() <= 0.985
    assert np.array_equal(limit(0.1 * noise, RATE), 0.1 * noise)


@pytest.mark.parametrize("level_db", [-30.0, -10.0])
def test_the_master_sets_the_level(level_db: float) -> None:
    mix = np.random.default_rng(0).standard_normal((2, RATE)).astype(np.float32)
    finished = master(mix, Master(level_db=level_db), RATE)
    assert 20 * np.log10(loudness(finished, RATE)) == pytest.approx(level_db, abs=1.5)


@pytest.mark.parametrize("codec", ["mp3", "vorbis"])
def test_a_lossy_codec_keeps_length_and_alignment(codec: str) -> None:
    if codec == "mp3" and "MP3" not in soundfile.available_formats():
        pytest.skip("this libsndfile has no MP3 encoder (needs 1.1)")
    audio = render(small_piece(), variation=Variation())
    restored = encode_and_decode(audio, RATE, codec, 0.5)  # type: ignore[arg-type]
    assert restored.shape == audio.shape
    lags = np.fft.irfft(np.fft.rfft(restored[0]) * np.conj(np.fft.rfft(audio[0])))
    assert abs((int(np.argmax(lags)) + audio.shape[1] // 2) % audio.shape[1] - audio.shape[1] // 2) <= 2
    assert np.corrcoef(restored[0], audio[0])[0, 1] > 0.95


@pytest.mark.parametrize("codec", ["none", "low_pass", "resampled", "mu_law", "eight_bit", "mp3", "vorbis"])
def test_damage_spoils_the_sound_but_not_its_shape(codec: str) -> None:
    audio = render(small_piece(), variation=Variation())
    damage = Damage(hiss_db=-40.0, hiss_slope=0.5, hum_db=-40.0, codec=codec, bandwidth_hz=5500.0)  # type: ignore[arg-type]
    spoilt = spoil(audio, damage, RATE, np.random.default_rng(0))
    assert spoilt.shape == audio.shape and spoilt.dtype == np.float32
    assert np.abs(spoilt).max() <= 1.0
    assert not np.array_equal(spoilt, audio)
    assert np.corrcoef(spoilt[0], audio[0])[0, 1] > 0.85


def test_the_drift_moves_every_event_alike_and_the_local_tempo_by_one_percent_at_most() -> None:
    piece = small_piece(32.0)
    for seed in range(20):
        heard = perform(piece, draw_variation(seed))
        beats = np.array([beat for bar in heard.bars for beat in bar.beats])
        assert np.abs(np.diff(beats) / 0.5 - 1.0).max() <= 0.0101
        assert beats == pytest.approx([hit.start for hit in heard.drums])
        assert beats == pytest.approx([note.start for note in heard.tracks["bass"]])


def test_guitars_and_drums_stay_near_their_plain_balance_in_every_draw() -> None:
    plain = Variation().balance_db
    for seed in range(300):
        drawn = draw_variation(seed).balance_db
        for stem in ("guitar_left", "guitar_right", "drums"):
            assert abs(drawn[stem] - plain[stem]) <= 4.0


def test_the_drawn_instruments_cover_every_family() -> None:
    rng = np.random.default_rng(0)
    assert {draw_string(rng).family for _ in range(300)} == {"string", "saw", "pulse", "bell", "reed"}
