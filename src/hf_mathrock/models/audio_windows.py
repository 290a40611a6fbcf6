# SPDX-License-Identifier: Apache-2.0
"""From blocks of decoded audio to windows: repair, mix down, resample, cut, and say what was wrong with each window.

Everything here is a function of the samples alone. Decisions are taken on a grid of half seconds of the source or on
whole windows, so neither the decoder's block size nor the batching of windows can change a sample.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from .audio_reading import AudioInfo, BlockReader, read_error

QUALITY_FLAGS = (
    "silent",  # below -70 dBFS once any offset is removed
    "too_short",  # the whole audio is shorter than a second
    "truncated",  # clearly less decoded than the header claims, or the stream breaks off
    "clipped",  # samples held flat at full scale or beyond
    "over_full_scale",  # samples beyond +-1 (up to 2) from a source that has no reason for them; left as they are
    "scaled",  # samples beyond +-2: the window was divided by its peak
    "non_finite_repaired",  # NaN, infinite or absurd samples were set to zero
    "dc_removed",  # a constant offset was subtracted
    "antiphase",  # the channels cancel each other: the louder one was used
)

DECISION_SECONDS = 0.5
LARGEST_SAMPLE = 2.0**32  # beyond any integer mistaken for a float: not audio, and its square must not overflow
MAX_NON_FINITE_FRACTION = 0.01
FULL_SCALE = 0.999
OVER_FULL_SCALE = 1.001  # dithering and rounding may touch 1.0
MIN_CLIPPED_FRACTION = 1e-4  # of the frames in the window
SCALE_PEAK = 2.0  # decoders of lossy formats and float masters stay below; what is above was written at another scale
DC_THRESHOLD = 0.02
SILENCE_RMS = 10 ** (-70 / 20)
MIN_SECONDS = 1.0
ANTIPHASE_ENTER, ANTIPHASE_LEAVE = 1e-3, 1e-2  # energy of the mix over mean channel energy: -30 dB, -20 dB
CROSSFADE_SECONDS = 0.01


@dataclass
class AudioWindow:
    """One window of the fixed grid.

    Attributes:
        index: position in the grid, from 0.
        start: seconds from the beginning of the audio, `index * hop_seconds`.
        end: seconds, `min(start + window_seconds, duration)`.
        audio: sampling rate in Hz → mono float32 `(num_samples,)`, every rate over the same span. Full windows have
            `round(window_seconds * rate)` samples; the last one may be shorter and is not padded.
        quality: flags out of `QUALITY_FLAGS`, in that order.
        before: sampling rate in Hz → the samples that come just before the window, where context was asked for: fewer
            at the beginning of the audio, none in the first window.
    """

    index: int
    start: float
    end: float
    audio: dict[int, np.ndarray]
    quality: list[str] = field(default_factory=list)
    before: dict[int, np.ndarray] = field(default_factory=dict)


class MonoStream:
    """The repaired mono signal of a reader, in half seconds, with a record of where the source had faults.

    Faults are kept as frame numbers per flag, so that every window can be told exactly which of them it contains.
    """

    def __init__(self, reader: BlockReader):
        self._reader = reader
        self._info: AudioInfo = reader.info
        self._faults: dict[str, list[np.ndarray]] = {}
        self._mix = np.full(self._info.channels, 1 / self._info.channels, dtype=np.float32)
        self._antiphase = False
        self.num_frames = 0
        self.num_non_finite = 0

    def blocks(self, block_frames: int) -> Iterator[np.ndarray]:
        """Mono float32 `(num_frames,)`; every block but the last is `DECISION_SECONDS` long.

        Args:
            block_frames: how much to ask the decoder for at a time; changes nothing but speed.

        Raises:
            AudioReadError: `empty` when nothing decodes; after the last block `non_finite`, when more than 1 % of the
                frames had to be repaired.
        """
        decision_frames = round(DECISION_SECONDS * self._info.sampling_rate)
        for block in _regroup(self._reader.blocks(block_frames), decision_frames):
            block = self._repair(block)
            mono = self._mix_down(block)
            self.num_frames += len(block)
            yield mono
        if self.num_frames == 0:
            raise read_error(
                self._info.file,
                "empty",
                f"the {self._info.container} header is there but no samples follow; it was probably never finished",
            )
        if self.num_non_finite > MAX_NON_FINITE_FRACTION * self.num_frames:
            raise read_error(
                self._info.file,
                "non_finite",
                f"{self.num_non_finite} of {self.num_frames} samples are NaN, infinite or beyond 2^32, more than 1 %;"
                " the program that wrote it failed, or its encoding is not what the header says: write it again",
            )

    def count_faults(self, flag: str, first: int, last: int) -> int:
        """Number of frames in `[first, last)` with this fault."""
        counts = (np.searchsorted(frames, [first, last]) for frames in self._faults.get(flag, ()))
        return int(sum(before_last - before_first for before_first, before_last in counts))

    def forget(self, first: int) -> None:
        """Drop the record of faults before frame `first`."""
        for flag, chunks in self._faults.items():
            self._faults[flag] = [frames for frames in chunks if frames[-1] >= first]

    def _record(self, flag: str, faulty: np.ndarray) -> None:
        frames = np.flatnonzero(faulty)
        if len(frames):
            self._faults.setdefault(flag, []).append(frames + self.num_frames)

    def _repair(self, block: np.ndarray) -> np.ndarray:
        peak = max(block.max(), -block.min())
        if not peak <= LARGEST_SAMPLE:  # true for NaN as well, which `max` hands on
            bad = ~(np.abs(block) <= LARGEST_SAMPLE)
            block = np.where(bad, np.float32(0), block)
            faulty = bad.any(axis=1)
            self._record("non_finite_repaired", faulty)
            self.num_non_finite += int(np.count_nonzero(faulty))
            peak = np.abs(block).max()
        if peak >= FULL_SCALE:
            # Three equal samples in a row: a wave that merely touches full scale does not stay there.
            held = (block[1:] == block[:-1]) & (np.abs(block[1:]) >= FULL_SCALE)
            flat = np.zeros(len(block), dtype=bool)
            flat[1:-1] = (held[1:] & held[:-1]).any(axis=1)
            self._record("clipped", flat)
        if peak > OVER_FULL_SCALE and not self._info.lossy:
            self._record("over_full_scale", (np.abs(block) > OVER_FULL_SCALE).any(axis=1))
        return block

    def _mix_down(self, block: np.ndarray) -> np.ndarray:
        if self._info.channels == 1:
            return block[:, 0]
        previous = self._mix
        self._mix = self._choose_mix(block)
        mono = block @ self._mix
        if self.num_frames and not np.array_equal(previous, self._mix):
            length = min(len(block), round(CROSSFADE_SECONDS * self._info.sampling_rate))
            fade = np.linspace(0, 1, length, dtype=np.float32)
            mono[:length] = fade * mono[:length] + (1 - fade) * (block[:length] @ previous)
        if self._antiphase:
            self._record("antiphase", np.ones(len(block), dtype=bool))
        return mono

    def _choose_mix(self, block: np.ndarray) -> np.ndarray:
        """Weight per channel: the mean, or the louder channel alone while the channels cancel in the mean.

        The energy of any mix w is w'Gw with G = X'X, so one small matrix product answers everything. The threshold to
        leave is above the one to enter, lest a signal near it flickers between two mixes.
        """
        num_channels = self._info.channels
        mean = np.full(num_channels, 1 / num_channels, dtype=np.float32)
        gram = block.T @ block
        channel_energy = np.diagonal(gram)
        if channel_energy.max() <= len(block) * SILENCE_RMS**2:
            return self._mix
        ratio = float(mean @ gram @ mean) / float(channel_energy.mean())
        was_antiphase, self._antiphase = (
            self._antiphase,
            ratio < (ANTIPHASE_LEAVE if self._antiphase else ANTIPHASE_ENTER),
        )
        if not self._antiphase:
            return mean
        if was_antiphase:
            return self._mix
        loudest = np.zeros(num_channels, dtype=np.float32)
        loudest[np.argmax(channel_energy)] = 1
        return loudest


def _regroup(blocks: Iterable[np.ndarray], num_frames: int) -> Iterator[np.ndarray]:
    """The same frames in blocks of exactly `num_frames`; the last may be shorter."""
    pending: list[np.ndarray] = []
    num_pending = 0
    for block in blocks:
        while num_pending + len(block) >= num_frames:
            taken = num_frames - num_pending
            yield np.concatenate([*pending, block[:taken]]) if pending else block[:taken]
            block, pending, num_pending = block[taken:], [], 0
        if len(block):
            pending.append(block)
            num_pending += len(block)
    if pending:
        yield np.concatenate(pending)


class ResampledTrack:
    """The mono signal at one sampling rate, of which only the part still needed is kept.

    soxr's streaming resampler gives the samples of its one-shot call, whatever the size of the pieces.
    """

    def __init__(self, source_rate: int, sampling_rate: int):
        self._resampler = None
        if sampling_rate != source_rate:
            try:
                import soxr
            except ImportError as error:
                raise ImportError("resampling needs soxr: pip install soxr") from error
            self._resampler = soxr.ResampleStream(source_rate, sampling_rate, 1, dtype="float32", quality="HQ")
        self.sampling_rate = sampling_rate
        self._chunks: list[np.ndarray] = []
        self._first = 0  # number of the first sample kept
        self.num_samples = 0  # produced so far, kept or not

    def push(self, mono: np.ndarray, last: bool = False) -> None:
        if self._resampler is not None:
            mono = self._resampler.resample_chunk(np.ascontiguousarray(mono), last=last)
        if len(mono):
            self._chunks.append(mono)
            self.num_samples += len(mono)

    def cut(self, first: int, last: int) -> np.ndarray:
        """Samples `[first, last)`; a zero stands for the sample that rounding may leave missing at the very end."""
        if len(self._chunks) > 1:
            self._chunks = [np.concatenate(self._chunks)]
        samples = np.zeros(last - first, dtype=np.float32)
        if self._chunks:
            found = self._chunks[0][first - self._first : last - self._first]
            samples[: len(found)] = found
        return samples

    def forget(self, first: int) -> None:
        """Drop the samples before number `first`."""
        while self._chunks and self._first < first:
            dropped = min(first - self._first, len(self._chunks[0]))
            self._chunks[0] = self._chunks[0][dropped:]
            self._first += dropped
            if len(self._chunks[0]) == 0:
                del self._chunks[0]


def cut_windows(
    stream: MonoStream,
    info: AudioInfo,
    window_seconds: float,
    hop_seconds: float,
    sampling_rates: Sequence[int],
    block_frames: int,
    context_seconds: float = 0.0,
    keep_rest: bool = False,
) -> Iterator[AudioWindow]:
    """Windows of the grid, each as soon as its last sample is there.

    Window `i` covers `[i * hop, i * hop + window)` and is full if the audio reaches its end. After the full windows
    comes one shorter window if nothing was full, or if it adds at least a second (or half a hop, where that is less)
    that no full window reached; a smaller rest is left out, unless `keep_rest`.

    Times are rounded to a microsecond, so that they print as they were meant; sample numbers are `round(start * rate)`.
    """
    rate = info.sampling_rate
    source = ResampledTrack(rate, rate)  # windows are judged by the samples of the source
    tracks = {wanted: source if wanted == rate else ResampledTrack(rate, wanted) for wanted in sampling_rates}
    all_tracks = [source, *(track for track in tracks.values() if track is not source)]
    index = 0

    def start_of(index: int, sampling_rate: int) -> int:
        return round(round(index * hop_seconds, 6) * sampling_rate)

    def end_of(index: int, sampling_rate: int) -> int:
        return start_of(index, sampling_rate) + round(window_seconds * sampling_rate)

    def first_of(index: int, sampling_rate: int) -> int:
        """The first sample that a window needs, its context included."""
        return max(0, start_of(index, sampling_rate) - round(context_seconds * sampling_rate))

    def cut(num_frames: int | None = None) -> AudioWindow:
        """The window at `index`: full, or up to the end of the audio after `num_frames` source frames."""
        start = round(index * hop_seconds, 6)
        end = round(start + window_seconds if num_frames is None else num_frames / rate, 6)
        audio, before = {}, {}
        for wanted, track in tracks.items():
            first = start_of(index, wanted)
            last = end_of(index, wanted) if num_frames is None else max(first + 1, round(end * wanted))
            audio[wanted] = track.cut(first, last)
            if context_seconds:
                before[wanted] = track.cut(first_of(index, wanted), first)
        first, last = start_of(index, rate), end_of(index, rate) if num_frames is None else num_frames
        window = AudioWindow(index, start, end, audio, before=before)
        _judge(window, source.cut(first, last), rate, _faults_between(stream, first, last))
        for track in all_tracks:
            track.forget(first_of(index + 1, track.sampling_rate))
        stream.forget(start_of(index + 1, rate))
        return window

    for mono in stream.blocks(block_frames):
        for track in all_tracks:
            track.push(mono)
        while all(track.num_samples >= end_of(index, track.sampling_rate) for track in all_tracks):
            yield cut()
            index += 1
    for track in all_tracks:
        track.push(np.empty(0, dtype=np.float32), last=True)
    num_frames = stream.num_frames
    while end_of(index, rate) <= num_frames:
        yield cut()
        index += 1
    reached = end_of(index - 1, rate) if index else 0
    rest_worth_a_window = 1 if keep_rest else min(MIN_SECONDS, hop_seconds / 2) * rate
    if index == 0 or (start_of(index, rate) < num_frames and num_frames - reached >= rest_worth_a_window):
        window = cut(num_frames)
        if num_frames < MIN_SECONDS * rate:
            window.quality = in_order({*window.quality, "too_short"})
        yield window


def count_windows(num_frames: int, sampling_rate: int, window_seconds: float, hop_seconds: float) -> int:
    """How many windows `cut_windows` gives of audio of that many frames, at least 1."""
    length = round(window_seconds * sampling_rate)
    count = 0
    while round(round(count * hop_seconds, 6) * sampling_rate) + length <= num_frames:
        count += 1
    if count == 0:
        return 1
    start = round(round(count * hop_seconds, 6) * sampling_rate)
    reached = round(round((count - 1) * hop_seconds, 6) * sampling_rate) + length
    rest_worth_a_window = min(MIN_SECONDS, hop_seconds / 2) * sampling_rate
    return count + (start < num_frames and num_frames - reached >= rest_worth_a_window)


def _faults_between(stream: MonoStream, first: int, last: int) -> set[str]:
    flags = {
        flag
        for flag in ("over_full_scale", "non_finite_repaired", "antiphase")
        if stream.count_faults(flag, first, last)
    }
    if stream.count_faults("clipped", first, last) >= MIN_CLIPPED_FRACTION * (last - first):
        flags.add("clipped")
    return flags


def _judge(window: AudioWindow, measured: np.ndarray, rate: int, faults: set[str]) -> None:
    """Set the window's flags and bring its audio to scale, by its source samples `measured` and the faults among them.

    A peak up to 2 is left alone: lossy decoders and float masters reach it, and changing it would make the result
    depend on how the same music was stored. Beyond it the file was written at another scale (integers saved as
    floats), so the window is divided by its peak, which keeps its shape.
    """
    flags = set(faults)
    gain = np.float32(1)
    peak = max(measured.max(), -measured.min())
    if peak > SCALE_PEAK:
        flags = flags - {"over_full_scale"} | {"scaled"}
        gain = np.float32(1 / peak)
        measured = measured * gain
    offset = np.float32(measured.mean(dtype=np.float64))
    # A bass note that is cut off has a mean too, the larger the shorter the window; a second evens out any of them.
    if abs(offset) * len(measured) > DC_THRESHOLD * max(len(measured), rate):
        flags.add("dc_removed")
        measured = measured - offset
    else:
        offset = np.float32(0)
    if gain != 1 or offset != 0:
        window.audio = {rate: samples * gain - offset for rate, samples in window.audio.items()}
        window.before = {rate: samples * gain - offset for rate, samples in window.before.items()}
    if np.dot(measured, measured) < len(measured) * SILENCE_RMS**2:
        flags.add("silent")
    window.quality = in_order(flags)


def in_order(flags: Iterable[str]) -> list[str]:
    """The flags as a list in the order of `QUALITY_FLAGS`."""
    found = set(flags)
    return [flag for flag in QUALITY_FLAGS if flag in found]
