# SPDX-License-Identifier: Apache-2.0
"""Means over parts of a batch."""

from __future__ import annotations

import torch


def masked_mean(hidden_states: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    """Mean over time of the frames that hold sound.

    Args:
        hidden_states: `(batch_size, num_frames, hidden_size)`.
        mask: `(batch_size, num_frames)`, true where a frame counts; `None`: all of them.

    Returns:
        `(batch_size, hidden_size)`; zeros for a row without a single valid frame.
    """
    if mask is None:
        return hidden_states.mean(dim=1)
    weights = mask.to(hidden_states.dtype).unsqueeze(-1)
    return (hidden_states * weights).sum(dim=1) / weights.sum(dim=1).clamp(min=1)


def mean_over_windows(values: torch.Tensor, windows_per_clip: torch.Tensor | None) -> torch.Tensor:
    """Average the windows of each clip.

    Args:
        values: `(batch_size, size)`, the windows of the first clip, then those of the second, and so on.
        windows_per_clip: `(num_clips,)` integers that sum to `batch_size`; `None`: every window is a clip.

    Returns:
        `(num_clips, size)`.

    Raises:
        ValueError: The counts do not sum to the number of windows, or one is less than 1.
    """
    if windows_per_clip is None:
        return values
    counts = windows_per_clip.to(values.device)
    if bool((counts < 1).any()):
        raise ValueError(f"`windows_per_clip` is {counts.tolist()}; every clip has at least one window.")
    if int(counts.sum()) != values.shape[0]:
        raise ValueError(f"`windows_per_clip` counts {int(counts.sum())} windows, the batch holds {values.shape[0]}.")
    clip = torch.repeat_interleave(torch.arange(len(counts), device=values.device), counts)
    sums = values.new_zeros(len(counts), values.shape[1]).index_add(0, clip, values)
    return sums / counts.unsqueeze(1).to(values.dtype)
