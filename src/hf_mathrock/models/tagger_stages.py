# SPDX-License-Identifier: Apache-2.0
"""The stages a music tagger's front end is made of, and what sizes come out of them.

A stage is a dict: `block` names a class of `BLOCKS`, the other keys are its options. A block gets the number of
channels that arrive and its options, says its `out_channels`, and maps `(batch_size, channels, bands, frames)`, or
without bands `(batch_size, channels, steps)`, to another of the two.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from .configuration_features import check_names
from .configuration_values import check_value
from .tagger_waveform_stages import WAVEFORM_BLOCKS

# Options that the whole configuration settles, so that no stage can contradict it.
FROM_CONFIG = ("batch_norm_eps", "sampling_rate")
# A batch of this many rows is not mistaken for a number of channels where a size is tried out.
_TRIAL_ROWS = 3


def _pair(value: int | Sequence[int], name: str) -> tuple[int, int]:
    """Of bands and of frames; one number stands for both."""
    pair = (value, value) if isinstance(value, int) else tuple(value)
    if len(pair) != 2 or not all(type(size) is int and size >= 1 for size in pair):
        raise ValueError(f"`{name}` is {value!r}; it must be a positive whole number, or two: [bands, frames].")
    return pair[0], pair[1]


class StageConv2d(nn.Conv2d):
    """A convolution whose weights are laid out channels last on the CPU.

    A network then takes up to half the time there, its max pooling a twentieth. They are laid out anew each time, which
    costs next to nothing: that layout would not survive saving and loading.
    """

    def _conv_forward(self, input: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        if input.device.type == "cpu":
            weight = weight.to(memory_format=torch.channels_last)
        return super()._conv_forward(input, weight, bias)


class Conv2dBlock(nn.Module):
    """Convolution, batch norm, ReLU and max pooling of a spectrogram.

    Args:
        in_channels: Channels of the input.
        channels: Channels of the output.
        kernel_size: Of the convolution, which is padded by half of it.
        stride: Of the convolution.
        pool: Of the max pooling, whose remainder is left out.
        batch_norm_eps: Added to the variance.

    Sizes are one number, or `[bands, frames]`.
    """

    def __init__(
        self,
        in_channels: int,
        channels: int,
        kernel_size: int | Sequence[int] = 3,
        stride: int | Sequence[int] = 1,
        pool: int | Sequence[int] = 1,
        batch_norm_eps: float = 1e-5,
    ) -> None:
        super().__init__()
        kernel = _pair(kernel_size, "kernel_size")
        self.out_channels = channels
        self.conv = StageConv2d(
            in_channels, channels, kernel, stride=_pair(stride, "stride"), padding=(kernel[0] // 2, kernel[1] // 2)
        )
        self.batch_norm = nn.BatchNorm2d(channels, eps=batch_norm_eps)
        self.pool = _pair(pool, "pool")

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        return _pooled_2d(F.relu(self.batch_norm(self.conv(states))), self.pool)


class Residual2dBlock(nn.Module):
    """Two 3x3 convolutions with batch norm beside a shortcut, ReLU, and max pooling.

    The shortcut is the input itself, or, where the stride or the number of channels changes it, a third convolution of
    the same size with batch norm (not the usual 1x1: it holds a third of a short-chunk residual network's weights).

    Args:
        in_channels: Channels of the input.
        channels: Channels of the output.
        kernel_size: Of the convolutions, which are padded by half of it.
        stride: Of the first one and of the shortcut.
        pool: Of the max pooling, whose remainder is left out.
        batch_norm_eps: Added to the variance.

    Sizes are one number, or `[bands, frames]`.
    """

    def __init__(
        self,
        in_channels: int,
        channels: int,
        kernel_size: int | Sequence[int] = 3,
        stride: int | Sequence[int] = 1,
        pool: int | Sequence[int] = 1,
        batch_norm_eps: float = 1e-5,
    ) -> None:
        super().__init__()
        kernel, strides = _pair(kernel_size, "kernel_size"), _pair(stride, "stride")
        _check_odd(kernel)
        padding = (kernel[0] // 2, kernel[1] // 2)
        self.out_channels = channels
        self.conv1 = StageConv2d(in_channels, channels, kernel, stride=strides, padding=padding)
        self.batch_norm1 = nn.BatchNorm2d(channels, eps=batch_norm_eps)
        self.conv2 = StageConv2d(channels, channels, kernel, padding=padding)
        self.batch_norm2 = nn.BatchNorm2d(channels, eps=batch_norm_eps)
        self.shortcut_conv: nn.Conv2d | None = None
        if strides != (1, 1) or in_channels != channels:
            self.shortcut_conv = StageConv2d(in_channels, channels, kernel, stride=strides, padding=padding)
            self.shortcut_batch_norm = nn.BatchNorm2d(channels, eps=batch_norm_eps)
        self.pool = _pair(pool, "pool")

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        main = F.relu(self.batch_norm1(self.conv1(states)))
        main = self.batch_norm2(self.conv2(main))
        if self.shortcut_conv is not None:
            states = self.shortcut_batch_norm(self.shortcut_conv(states))
        return _pooled_2d(F.relu(main + states), self.pool)


class Conv1dBlock(nn.Module):
    """Convolution, batch norm, ReLU and max pooling of a waveform or of any sequence.

    Args:
        in_channels: Channels of the input.
        channels: Channels of the output.
        kernel_size: Of the convolution, which is padded by half of it.
        stride: Of the convolution.
        pool: Of the max pooling, whose remainder is left out.
        batch_norm_eps: Added to the variance.
    """

    def __init__(
        self,
        in_channels: int,
        channels: int,
        kernel_size: int = 3,
        stride: int = 1,
        pool: int = 1,
        batch_norm_eps: float = 1e-5,
    ) -> None:
        super().__init__()
        self.out_channels = channels
        self.conv = nn.Conv1d(in_channels, channels, kernel_size, stride=stride, padding=kernel_size // 2)
        self.batch_norm = nn.BatchNorm1d(channels, eps=batch_norm_eps)
        self.pool = pool

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        return _pooled_1d(F.relu(self.batch_norm(self.conv(states))), self.pool)


class ResidualSE1dBlock(nn.Module):
    """Two convolutions of a sequence, a gate for each channel, a shortcut, ReLU and max pooling.

    The gate (squeeze and excitation) hears the mean over time of all channels, through two linear layers as wide as
    they are; most have a narrow layer between. The shortcut is as in `Residual2dBlock`.

    Args:
        in_channels: Channels of the input.
        channels: Channels of the output.
        kernel_size: Of the convolutions, which are padded by half of it; odd.
        stride: Of the first one and of the shortcut.
        pool: Of the max pooling, whose remainder is left out.
        batch_norm_eps: Added to the variance.
    """

    def __init__(
        self,
        in_channels: int,
        channels: int,
        kernel_size: int = 3,
        stride: int = 1,
        pool: int = 1,
        batch_norm_eps: float = 1e-5,
    ) -> None:
        super().__init__()
        _check_odd((kernel_size,))
        self.out_channels = channels
        self.conv1 = nn.Conv1d(in_channels, channels, kernel_size, stride=stride, padding=kernel_size // 2)
        self.batch_norm1 = nn.BatchNorm1d(channels, eps=batch_norm_eps)
        self.conv2 = nn.Conv1d(channels, channels, kernel_size, padding=kernel_size // 2)
        self.batch_norm2 = nn.BatchNorm1d(channels, eps=batch_norm_eps)
        self.squeeze = nn.Linear(channels, channels)
        self.excite = nn.Linear(channels, channels)
        self.shortcut_conv: nn.Conv1d | None = None
        if stride != 1 or in_channels != channels:
            self.shortcut_conv = nn.Conv1d(in_channels, channels, kernel_size, stride=stride, padding=kernel_size // 2)
            self.shortcut_batch_norm = nn.BatchNorm1d(channels, eps=batch_norm_eps)
        self.pool = pool

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        main = self.batch_norm2(self.conv2(F.relu(self.batch_norm1(self.conv1(states)))))
        gate = torch.sigmoid(self.excite(F.relu(self.squeeze(main.mean(dim=2)))))
        if self.shortcut_conv is not None:
            states = self.shortcut_batch_norm(self.shortcut_conv(states))
        return _pooled_1d(F.relu(main * gate[:, :, None] + states), self.pool)


BLOCKS: dict[str, type[nn.Module]] = {
    "conv2d": Conv2dBlock,
    "residual2d": Residual2dBlock,
    "conv1d": Conv1dBlock,
    "residual_se1d": ResidualSE1dBlock,
    **WAVEFORM_BLOCKS,
}


def options_of(make: Callable[..., nn.Module], given_elsewhere: Sequence[str] = ()) -> dict[str, Any]:
    """Options of a class with their defaults, `inspect.Parameter.empty` where there is none.

    Args:
        make: The class.
        given_elsewhere: Names of arguments that are no options.
    """
    parameters = list(inspect.signature(make).parameters.values())
    skipped = {"in_channels", "hidden_size", *FROM_CONFIG, *given_elsewhere}
    return {parameter.name: plain(parameter.default) for parameter in parameters if parameter.name not in skipped}


def plain(value: Any) -> Any:
    """The value as JSON gives it back: lists for tuples, all the way down; a copy."""
    if isinstance(value, Mapping):
        return {key: plain(entry) for key, entry in value.items()}
    return [plain(entry) for entry in value] if isinstance(value, list | tuple) else value


def fill_stage(stage: Mapping[str, Any], index: int, settled: Mapping[str, Any]) -> dict[str, Any]:
    """A complete copy of a stage's description.

    Args:
        stage: `block` and any of its options.
        index: Its place, for messages.
        settled: The values of `FROM_CONFIG`; a stage may repeat them, and must not contradict.

    Raises:
        ValueError: The block or an option is unknown, or an option is missing; the message names it.
    """
    where = f"stages[{index}]"
    if not isinstance(stage, Mapping) or "block" not in stage:
        raise ValueError(f"`{where}` is {stage!r}; it must be a dict such as {{'block': 'conv2d', 'channels': 128}}.")
    block = stage["block"]
    check_names([block], BLOCKS, f"block in `{where}`")
    options = options_of(BLOCKS[block])
    check_names(stage, ["block", *options, *FROM_CONFIG], f"option of {block!r} in `{where}`")
    for name in FROM_CONFIG:
        if name in stage and stage[name] != settled[name]:
            raise ValueError(
                f"`{where}[{name!r}]` is {stage[name]!r}, but the config's `{name}` is {settled[name]!r}: leave it out "
                "of the stage, it follows the config."
            )
    filled = {"block": block, **options, **{name: stage[name] for name in options if name in stage}}
    if missing := [name for name, value in filled.items() if value is inspect.Parameter.empty]:
        raise ValueError(f"`{where}`, a {block!r}, lacks {', '.join(map(repr, missing))}.")
    for name, default in options.items():
        check_value(name, filled[name], default, f"`{where}[{name!r}]`", pairs=block.endswith("2d"))
    return plain(filled)


def build(make: Callable[..., nn.Module], in_channels: int, options: Mapping[str, Any], settled: Any) -> nn.Module:
    """A block or back end with its options and with what the configuration settles for it."""
    wanted = inspect.signature(make).parameters
    return make(in_channels, **options, **{name: settled[name] for name in FROM_CONFIG if name in wanted})


def build_stages(stages: Sequence[Mapping[str, Any]], in_channels: int, settled: Mapping[str, Any]) -> nn.ModuleList:
    """All stages, each for the channels that the one before gives.

    Args:
        stages: Descriptions.
        in_channels: Channels of the feature.
        settled: The values of `FROM_CONFIG`.

    Raises:
        ValueError: A stage cannot be built; the message says which one and why.
    """
    if not stages:
        raise ValueError("`stages` is empty; a tagger needs at least one.")
    blocks = nn.ModuleList()
    for index, stage in enumerate(stages):
        filled = fill_stage(stage, index, settled)
        options = {name: value for name, value in filled.items() if name != "block"}
        try:
            block = build(BLOCKS[filled["block"]], in_channels, options, settled)
        except (TypeError, ValueError, RuntimeError, IndexError) as error:
            raise ValueError(f"{_name(index, stages)} cannot be built for {in_channels} channels: {error}") from error
        blocks.append(block)
        in_channels = int(block.out_channels)  # type: ignore[arg-type]
    return blocks


def trace_stages(
    blocks: nn.ModuleList, stages: Sequence[Mapping[str, Any]], shape: Sequence[int]
) -> list[tuple[int, ...]]:
    """Sizes after each stage, without computing anything.

    Args:
        blocks: What `build_stages` made, on the meta device.
        stages: Their descriptions, for messages.
        shape: Of the feature, without the batch.

    Returns:
        The shape that goes into the first stage and those that come out of each, without the batch.

    Raises:
        ValueError: A stage does not take the size that arrives; the message says which one.
    """
    shapes = [tuple(shape)]
    states = torch.empty(_TRIAL_ROWS, *shape, device="meta")
    for index, block in enumerate(blocks):
        arrived = tuple(states.shape[1:])
        try:
            states = block(states)
        except (RuntimeError, ValueError, IndexError) as error:
            raise ValueError(_misfit(index, stages, arrived, str(error))) from error
        given = tuple(states.shape[1:])
        if states.shape[0] != _TRIAL_ROWS or len(given) not in (2, 3) or given[0] != block.out_channels:
            raise ValueError(_misfit(index, stages, arrived, "it wants another kind of input"))
        if 0 in given:
            raise ValueError(_misfit(index, stages, arrived, f"nothing is left: {size_text(given)} come out"))
        shapes.append(given)
    return shapes


def counted_once(stage: nn.Module) -> Callable[[torch.Tensor], torch.Tensor]:
    """The stage for gradient checkpointing, which runs it again: the batch must not enter the statistics twice."""
    calls: list[Any] = []

    def run(state: torch.Tensor) -> torch.Tensor:
        calls.append(None)
        if len(calls) == 1:
            return stage(state)
        with _frozen_statistics(stage):
            return stage(state)

    return run


@contextmanager
def _frozen_statistics(module: nn.Module) -> Iterator[None]:
    """Batch norms do all that they did, and remember none of it: checkpointing counts the tensors that they save."""
    norms = [norm for norm in module.modules() if isinstance(norm, _BatchNorm) and norm.track_running_stats]
    before = [(norm.momentum, norm.num_batches_tracked.clone()) for norm in norms]  # type: ignore[union-attr]
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, (momentum, count) in zip(norms, before, strict=True):
            norm.momentum = momentum
            norm.num_batches_tracked.copy_(count)  # type: ignore[union-attr]


def size_text(shape: Sequence[int]) -> str:
    """A size in words, such as "128 channels x 4 bands x 7 frames"."""
    names = ("channels", "bands", "frames") if len(shape) == 3 else ("channels", "steps in time")
    return " x ".join(f"{size} {name}" for size, name in zip(shape, names, strict=True))


def _check_odd(kernel: tuple[int, ...]) -> None:
    if not all(size % 2 for size in kernel):
        raise ValueError(f"`kernel_size` is {kernel}; beside a shortcut it must be odd, or the two differ in length.")


def _pooled_2d(states: torch.Tensor, pool: tuple[int, int]) -> torch.Tensor:
    return states if pool == (1, 1) else F.max_pool2d(states, pool)


def _pooled_1d(states: torch.Tensor, pool: int) -> torch.Tensor:
    return states if pool == 1 else F.max_pool1d(states, pool)


def _name(index: int, stages: Sequence[Mapping[str, Any]]) -> str:
    options = ", ".join(f"{name}={value}" for name, value in stages[index].items() if name != "block")
    return f"`stages[{index}]` of {len(stages)}, {stages[index]['block']!r} with {options or 'its defaults'},"


def _misfit(index: int, stages: Sequence[Mapping[str, Any]], arrived: Sequence[int], reason: str) -> str:
    return (
        f"{_name(index, stages)} does not take what arrives there, {size_text(arrived)}: "
        f"{reason.splitlines()[0].rstrip('.')}. Blocks for spectrograms take bands and frames, blocks for sequences "
        "only steps in time; and the pools and strides before may have left too little: pool less, or give more bands "
        "(`feature`) or longer audio (`input_samples`)."
    )
