# SPDX-License-Identifier: Apache-2.0
"""Named results of the models."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from transformers.utils import ModelOutput


@dataclass
class MathRockModelOutput(ModelOutput):
    """What the MathRock base model computes.

    Attributes:
        embeddings: Fused embedding in (-1, 1), `(num_clips, hidden_size)`.
        wavlm_embeddings: Mean of the valid WavLM frames, `(num_clips, wavlm_hidden_size)`.
        clap_audio_embeddings: Pooled output of the CLAP audio tower, `(num_clips, clap_audio_hidden_size)`.
        hidden_states: With `output_hidden_states=True`, WavLM's input to and output of every layer, each
            `(batch_size, num_frames, wavlm_hidden_size)`.
        clap_audio_hidden_states: Likewise the CLAP tower's, each `(batch_size, channels, height, width)`.
    """

    embeddings: torch.Tensor | None = None
    wavlm_embeddings: torch.Tensor | None = None
    clap_audio_embeddings: torch.Tensor | None = None
    hidden_states: tuple[torch.Tensor, ...] | None = None
    clap_audio_hidden_states: tuple[torch.Tensor, ...] | None = None


@dataclass
class MathRockClassifierOutput(ModelOutput):
    """What the MathRock classifier computes.

    Attributes:
        loss: With labels: the weighted sum of the tasks' losses, a scalar.
        logits: Logits of the first task, `(num_clips, num_labels)`.
        task_logits: Logits of every task, by name.
        task_losses: With labels: the unweighted loss of every task, by name; 0 for a task without a known label.
        embeddings: As in `MathRockModelOutput`.
        wavlm_embeddings: As in `MathRockModelOutput`.
        clap_audio_embeddings: As in `MathRockModelOutput`.
        hidden_states: As in `MathRockModelOutput`.
        clap_audio_hidden_states: As in `MathRockModelOutput`.
    """

    loss: torch.Tensor | None = None
    logits: torch.Tensor | None = None
    task_logits: dict[str, torch.Tensor] | None = None
    task_losses: dict[str, torch.Tensor] | None = None
    embeddings: torch.Tensor | None = None
    wavlm_embeddings: torch.Tensor | None = None
    clap_audio_embeddings: torch.Tensor | None = None
    hidden_states: tuple[torch.Tensor, ...] | None = None
    clap_audio_hidden_states: tuple[torch.Tensor, ...] | None = None


@dataclass
class MusicTaggerModelOutput(ModelOutput):
    """What the base model of a tagger computes.

    Attributes:
        embeddings: What the head sees, `(num_clips, hidden_size)`.
        hidden_states: With `output_hidden_states=True`, the states on the way, as the base model's `embed` lists them.
        attentions: With `output_attentions=True`, of models that have attention: its weights in every layer, each
            `(batch_size, num_heads, num_tokens, num_tokens)`.
    """

    embeddings: torch.Tensor | None = None
    hidden_states: tuple[torch.Tensor, ...] | None = None
    attentions: tuple[torch.Tensor, ...] | None = None


@dataclass
class MusicTaggerOutput(ModelOutput):
    """What every tagger computes.

    Attributes:
        loss: With labels: the sum of the tasks' losses, a scalar.
        logits: Logits of the first task, `(num_clips, num_labels)`; their sigmoid, or softmax, is left to the caller.
        task_logits: Logits of every task, by name.
        task_losses: With labels: the loss of every task, by name; 0 for a task without a known label.
        embeddings: As in `MusicTaggerModelOutput`.
        hidden_states: As in `MusicTaggerModelOutput`.
        attentions: As in `MusicTaggerModelOutput`.
    """

    loss: torch.Tensor | None = None
    logits: torch.Tensor | None = None
    task_logits: dict[str, torch.Tensor] | None = None
    task_losses: dict[str, torch.Tensor] | None = None
    embeddings: torch.Tensor | None = None
    hidden_states: tuple[torch.Tensor, ...] | None = None
    attentions: tuple[torch.Tensor, ...] | None = None
