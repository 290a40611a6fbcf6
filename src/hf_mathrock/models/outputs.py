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


@dataclass
class MynaModelOutput(ModelOutput):
    """What the Myna encoder computes.

    Attributes:
        last_hidden_state: States of the tokens after the final norm, `(batch_size, num_states, hidden_size)`, the class
            token first; of a hybrid those of each patch size one after the other. `None` where a track was too long to
            be heard at once.
        pooler_output: The embedding, `(batch_size, embedding_size)`.
        token_mask: Which states are of this row and not padding, `(batch_size, num_states)`.
        position_ids: Column and row of every state's patch, `(batch_size, num_states, 2)`; -1 for the class token and
            padding.
        mode: How the audio was heard: "whole" (each token that came, at once), "patchout" (a random share of them) or
            "two_level" (stretch by stretch); of rows heard differently, "mixed".
        hidden_states: With `output_hidden_states=True`, the input of the first and the output of every layer.
        attentions: With `output_attentions=True`, the weights of every layer, `(batch_size, num_heads, num_states,
            num_states)`; of a hybrid those of its first patch size, then those of the next.
    """

    last_hidden_state: torch.Tensor | None = None
    pooler_output: torch.Tensor | None = None
    token_mask: torch.Tensor | None = None
    position_ids: torch.Tensor | None = None
    mode: str | None = None
    hidden_states: tuple[torch.Tensor, ...] | None = None
    attentions: tuple[torch.Tensor, ...] | None = None


@dataclass
class MynaForPreTrainingOutput(ModelOutput):
    """What Myna computes for contrastive training.

    Attributes:
        loss: With a second view: the contrastive loss, a scalar.
        projections: Unit vectors behind the projector, `(batch_size, projector_sizes[-1])`.
        other_projections: Likewise of the second view.
        embeddings: Before the projector, `(batch_size, embedding_size)`.
    """

    loss: torch.Tensor | None = None
    projections: torch.Tensor | None = None
    other_projections: torch.Tensor | None = None
    embeddings: torch.Tensor | None = None
