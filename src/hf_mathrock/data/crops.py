# SPDX-License-Identifier: Apache-2.0
"""Two crops of each track, as contrastive training compares them: batches of one length, of many lengths in turn.

Every number follows from the seed, the epoch and the place in it. So a run that was interrupted goes on with the very
batch that was next, and processes that train together agree on the length of theirs without a word.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from hf_mathrock.data.mel_cache import MelCache

# Of a batch at most this share of the tracks is shorter than the crops, and filled up.
_PADDED_SHARE = 0.25
# What random numbers are drawn for, so that no two purposes share any.
_ORDER, _PLAN, _PLACES, _FIXED = range(4)


@dataclass(frozen=True)
class CropPlan:
    """What all rows of a training step have in common.

    Attributes:
        num_frames: Of the first crop of each track.
        other_num_frames: Of the second.
        keep_ratio: Share of the tokens that the model hears of each.
    """

    num_frames: int
    other_num_frames: int
    keep_ratio: float


class CropBatches(Dataset):
    """Pairs of random crops for training, row after row of batch after batch.

    Row `i` belongs to step `i // batch_size` of the epoch, whose length and share of tokens it has; so rows must be
    taken in order (`train_sampling_strategy="sequential"`), which is no loss: the tracks come in a new order every
    epoch. Processes that share the batches out, as accelerate does, have theirs from the same step. An epoch is every
    track once, but for what fills no whole batch; of a library smaller than a batch tracks come several times in it.

    Args:
        cache: The tracks.
        extractor: The model's `MynaFeatureExtractor`.
        patch_sizes: The model config's.
        batch_size: Rows of a step in all processes together.
        min_seconds: Shortest crop. Lengths are drawn for each step and view, log-uniformly.
        max_seconds: Longest crop; also, three quarters of a step's tracks are at least as long as its crops.
        same_length: Whether both crops of a step have the same length.
        keep_ratio: Share of tokens that is kept, in (0, 1], or a lowest and a highest one to draw from log-uniformly.
        min_tokens: The share is raised until at least so many tokens of each crop are kept.
        max_tokens: Then it is lowered until no more than so many are: what bounds the memory of a step.
        steps_per_epoch: `None`: an epoch is every track once.
        seed: Of everything random.

    Raises:
        ValueError: A number is out of range, the cache is empty, or it was made with another extractor.
    """

    def __init__(
        self,
        cache: MelCache,
        extractor: Any,
        patch_sizes: Sequence[Sequence[int]],
        batch_size: int,
        *,
        min_seconds: float = 3.0,
        max_seconds: float = 60.0,
        same_length: bool = False,
        keep_ratio: float | Sequence[float] = 0.1,
        min_tokens: int = 16,
        max_tokens: int = 512,
        steps_per_epoch: int | None = None,
        seed: int = 0,
    ) -> None:
        ratios = list(keep_ratio) if isinstance(keep_ratio, Sequence) else [keep_ratio, keep_ratio]
        if not 0 < min_seconds <= max_seconds:
            raise ValueError(
                f"`min_seconds` is {min_seconds} and `max_seconds` {max_seconds}; the first must be above 0 and at "
                "most the second."
            )
        if len(ratios) != 2 or not 0 < ratios[0] <= ratios[1] <= 1:
            raise ValueError(f"`keep_ratio` is {keep_ratio}; give a share in (0, 1], or a lowest and a highest one.")
        if not 1 <= min_tokens <= max_tokens:
            raise ValueError(
                f"`min_tokens` is {min_tokens} and `max_tokens` {max_tokens}; the first must be at least 1 and at most "
                "the second."
            )
        for name, value in (("batch_size", batch_size), ("steps_per_epoch", steps_per_epoch)):
            if value is not None and value < 1:
                raise ValueError(f"`{name}` is {value}; it must be at least 1.")
        self._reader = _CropReader(cache, extractor, patch_sizes)
        self._patch_sizes = [tuple(size) for size in patch_sizes]
        self.cache, self.batch_size, self.seed = cache, batch_size, seed
        self._seconds, self._ratios, self._tokens = (min_seconds, max_seconds), ratios, (min_tokens, max_tokens)
        self._same_length = same_length
        self._num_steps = max(1, len(cache) // batch_size) if steps_per_epoch is None else steps_per_epoch
        # Shared with loader processes, which may outlive an epoch.
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()
        self._ordered: tuple[int, np.ndarray] | None = None

    def __len__(self) -> int:
        return self._num_steps * self.batch_size

    def set_epoch(self, epoch: int) -> None:
        """Say which epoch comes; transformers' Trainer does."""
        self._epoch.fill_(epoch)

    def plan(self, epoch: int, step: int) -> CropPlan:
        """The lengths and the share of tokens of a step."""
        random = np.random.default_rng([self.seed, _PLAN, epoch, step])
        tracks = self._order(epoch)[step * self.batch_size : (step + 1) * self.batch_size]
        longest = int(np.sort(self.cache.num_frames[tracks])[int(_PADDED_SHARE * len(tracks))])
        first, second = (self._reader.whole_frames(self._drawn_seconds(random), longest) for _ in range(2))
        if self._same_length:
            second = first
        ratio = math.exp(random.uniform(*np.log(self._ratios)))
        num_tokens = [
            self.cache.num_mel_bins // bins * (frames // width)
            for bins, width in self._patch_sizes
            for frames in (first, second)
        ]
        ratio = max(ratio, self._tokens[0] / min(num_tokens))
        return CropPlan(first, second, min(ratio, self._tokens[1] / max(num_tokens), 1.0))

    def _drawn_seconds(self, random: np.random.Generator) -> float:
        return math.exp(random.uniform(*np.log(self._seconds)))

    def _order(self, epoch: int) -> np.ndarray:
        """The track of each row of an epoch."""
        if self._ordered is None or self._ordered[0] != epoch:
            rounds = -(-len(self) // len(self.cache))
            orders = [
                np.random.default_rng([self.seed, _ORDER, epoch, index]).permutation(len(self.cache))
                for index in range(rounds)
            ]
            self._ordered = epoch, np.concatenate(orders)[: len(self)]
        return self._ordered[1]

    def __getitem__(self, index: int) -> dict[str, Any]:
        if not 0 <= index < len(self):
            raise IndexError(f"there is no row {index}; an epoch has {len(self)}.")
        epoch, step = int(self._epoch), index // self.batch_size
        plan, track = self.plan(epoch, step), int(self._order(epoch)[index])
        places = np.random.default_rng([self.seed, _PLACES, epoch, index]).random(2)
        return {
            **self._reader.pair(track, (plan.num_frames, plan.other_num_frames), tuple(places)),
            "keep_ratio": plan.keep_ratio,
            "step": step,
        }


class FixedCrops(Dataset):
    """One pair of crops of every track, always the same one, for validation; all tokens are heard.

    Of a track of at least twice their length one crop is from its first and one from its second half, so that what they
    have in common is not just the same moment.

    Args:
        cache: The tracks.
        extractor: The model's `MynaFeatureExtractor`.
        patch_sizes: The model config's.
        seconds: Length of the crops.
        seed: Of their places.

    Raises:
        ValueError: `seconds` is not positive, the cache is empty, or it was made with another extractor.
    """

    def __init__(
        self,
        cache: MelCache,
        extractor: Any,
        patch_sizes: Sequence[Sequence[int]],
        *,
        seconds: float = 10.0,
        seed: int = 0,
    ) -> None:
        if not seconds > 0:
            raise ValueError(f"`seconds` is {seconds}; crops must be longer than 0 s.")
        self._reader = _CropReader(cache, extractor, patch_sizes)
        self.cache, self.seed = cache, seed
        self._num_frames = self._reader.whole_frames(seconds)

    def __len__(self) -> int:
        return len(self.cache)

    def __getitem__(self, index: int) -> dict[str, Any]:
        if not 0 <= index < len(self):
            raise IndexError(f"there is no track {index}; there are {len(self)}.")
        first, second = np.random.default_rng([self.seed, _FIXED, index]).random(2)
        free = max(0, int(self.cache.num_frames[index]) - self._num_frames)
        if free >= self._num_frames:
            # Places are shares of the free range: in the first half up to `apart`, in the second from `1 - apart` on.
            apart = (free - self._num_frames) / 2 / free
            first, second = first * apart, 1 - second * apart
        else:
            first, second = 0.0, 1.0
        return self._reader.pair(index, (self._num_frames, self._num_frames), (first, second))


class _CropReader:
    """Reads crops of whole patches from a cache."""

    def __init__(self, cache: MelCache, extractor: Any, patch_sizes: Sequence[Sequence[int]]) -> None:
        if not len(cache):
            raise ValueError("The mel cache is empty; there is nothing to take crops of.")
        cache.check_extractor(extractor)
        self.cache, self.extractor = cache, extractor
        self.unit = math.lcm(*(frames for _, frames in patch_sizes))

    def whole_frames(self, seconds: float, longest: int | None = None) -> int:
        """Frames of a crop: whole patches, at least one, and no more than fit `longest` frames."""
        num_units = round(seconds * self.cache.frames_per_second / self.unit)
        if longest is not None:
            num_units = min(num_units, longest // self.unit)
        return max(1, num_units) * self.unit

    def pair(self, index: int, lengths: tuple[int, int], places: tuple[float, ...]) -> dict[str, Any]:
        """Two crops of a track; places in [0, 1] are where in the range of possible starts they begin."""
        track = self.cache[index]
        (first, num_first), (second, num_second) = (
            self._crop(track.decibels, track.reference, length, place)
            for length, place in zip(lengths, places, strict=True)
        )
        return {
            "input_features": first,
            "num_frames": num_first,
            "other_features": second,
            "other_num_frames": num_second,
            "track_id": index,
        }

    def _crop(self, decibels: np.ndarray, reference: float, length: int, place: float) -> tuple[np.ndarray, int]:
        """A crop `(length, num_mel_bins)`, and how much of it is no padding, in frames of whole patches."""
        start = min(int(place * (max(0, len(decibels) - length) + 1)), max(0, len(decibels) - length))
        values = self.extractor.values_of(decibels[start : start + length], reference)
        if len(values) == length:
            return values, length
        # What fills no patch at the end is left out, unless it is all there is.
        num_frames = max(len(values) // self.unit, 1) * self.unit
        crop = np.full((length, values.shape[1]), self.extractor.floor, dtype=np.float32)
        crop[: min(len(values), num_frames)] = values[:num_frames]
        return crop, num_frames


class CropCollator:
    """Rows of `CropBatches` or `FixedCrops` to a batch for `MynaForPreTraining`.

    A batch has `input_features` and `other_features`, `(batch_size, num_frames, num_mel_bins)` with a length of each,
    `track_ids` `(batch_size,)`, of training rows the `keep_ratio`, and where rows are padded `attention_mask` or
    `other_attention_mask`, `(batch_size, num_frames)`.
    """

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Put rows together.

        Raises:
            ValueError: They are of several steps, which have other lengths.
        """
        if len({row.get("step") for row in rows}) > 1:
            raise ValueError(
                "The rows of a batch are of several steps, so something shuffled them, or the batch is not of the size "
                "that `CropBatches` was given. Rows must come in order: train_sampling_strategy='sequential'."
            )
        batch: dict[str, Any] = {"track_ids": torch.tensor([row["track_id"] for row in rows])}
        for view, lengths, mask in (
            ("input_features", "num_frames", "attention_mask"),
            ("other_features", "other_num_frames", "other_attention_mask"),
        ):
            batch[view] = torch.from_numpy(np.stack([row[view] for row in rows]))
            num_frames = torch.tensor([row[lengths] for row in rows])
            if (num_frames < batch[view].shape[1]).any():
                batch[mask] = (torch.arange(batch[view].shape[1]) < num_frames[:, None]).long()
        if "keep_ratio" in rows[0]:
            batch["keep_ratio"] = rows[0]["keep_ratio"]
        return batch
