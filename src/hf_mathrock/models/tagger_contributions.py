# SPDX-License-Identifier: Apache-2.0
"""What every moment of a clip says about every tag: the contribution heat map of taggers with an encoder."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from transformers.utils import ModelOutput

from .modeling_tagging import TaggerForAudioClassification, rows_of_one_length


@dataclass
class TagContributions(ModelOutput):
    """What single tokens make a tagger say.

    Where clips have different lengths, shorter ones end in zeros; `token_mask` tells.

    Attributes:
        probabilities: In [0, 1], `(batch_size, num_outputs, num_tokens)`: of every label of every task, one task after
            the other, had the last layer listened to this token only.
        class_token_probabilities: `(batch_size, num_outputs)`: the same of the class token, had it listened to itself.
        undisturbed_probabilities: `(batch_size, num_outputs)`: what the model says of the clip. As in all three, logits
            are divided by the config's `temperatures` first.
        token_seconds: From when to when each token stands in the clip, in seconds, `(num_tokens, 2)`; what it hears
            reaches somewhat further on both sides.
        token_mask: `(batch_size, num_tokens)`, true for tokens of the clip.
        attention_map: If asked for, `(batch_size, num_tokens)`: the class token's attention in the last layer, summed
            over the heads. With what it pays to itself, it sums to the number of heads.
    """

    probabilities: torch.Tensor | None = None
    class_token_probabilities: torch.Tensor | None = None
    undisturbed_probabilities: torch.Tensor | None = None
    token_seconds: torch.Tensor | None = None
    token_mask: torch.Tensor | None = None
    attention_map: torch.Tensor | None = None


class TagContributionsMixin(TaggerForAudioClassification):
    """A tagger whose tokens can be asked one by one.

    Its base model has `encoder` (a `TaggerEncoder`, or `None` where the architecture has none) and
    `tokens(input_values, input_features)`, what the encoder hears of rows of one length; the class token after the last
    layer is what `classify` takes. Its config has `samples_per_token`.
    """

    @torch.no_grad()
    def tag_contributions(
        self,
        input_values: torch.Tensor | None = None,
        input_features: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        output_attention_map: bool = False,
    ) -> TagContributions:
        """What each token alone makes the model say of each label.

        For every token, all heads and queries of the last layer look at that token only, and the forward pass is
        finished as ever. This is an intervention, neither an attention weight nor a gradient. Only the class token's
        row of the last layer reaches the head, and attention pinned to token t is `W_o (W_v x_t + b_v) + b_o` whatever
        the query: all tokens take one pass together.

        Args:
            input_values: As for `forward`.
            input_features: As for `forward`.
            attention_mask: As for `forward`.
            output_attention_map: Also return the plain attention map.

        Returns:
            See `TagContributions`.

        Raises:
            ValueError: The model has no encoder, is in training mode, or does not take this input.

        Source: the heat map of Won, Chun and Serra, "Toward interpretable music tagging with self-attention" (2019),
        there with one forward pass per token.
        """
        encoder = getattr(self.base_model, "encoder", None)
        if encoder is None:
            raise ValueError(
                "This model has no transformer encoder, and so no tokens whose contribution could be told: explain it "
                "by occlusion instead."
            )
        if self.training:
            raise ValueError("The model is in training mode, where dropout takes part in every answer: call `eval()`.")
        groups = rows_of_one_length(input_values, input_features, attention_mask)
        inputs = input_values if input_values is not None else input_features
        assert inputs is not None
        parts = []
        for rows, waveform, spectrogram in groups:
            tokens = self.base_model.tokens(waveform, spectrogram)
            pinned = encoder.pinned(tokens, output_attention_map)
            states = torch.cat([pinned.undisturbed[:, None], pinned.states], dim=1)
            logits = self.classify(states.flatten(0, 1)).unflatten(0, states.shape[:2])
            part = {"probabilities": self._probabilities(logits).transpose(1, 2)}
            part["token_mask"] = torch.ones(tokens.shape[:2], dtype=torch.bool, device=tokens.device)
            if pinned.attention is not None:
                part["attention_map"] = pinned.attention[:, :, 0, 1:].sum(dim=1)
            parts.append((rows, part))
        joined = {name: _joined([(rows, part[name]) for rows, part in parts], len(inputs)) for name in parts[0][1]}
        probabilities = joined["probabilities"]
        return TagContributions(
            probabilities=probabilities[..., 2:],
            class_token_probabilities=probabilities[..., 1],
            undisturbed_probabilities=probabilities[..., 0],
            token_seconds=self._token_seconds(probabilities.shape[-1] - 2, *groups[-1][1:]),
            token_mask=joined["token_mask"],
            attention_map=joined.get("attention_map"),
        )

    def _probabilities(self, logits: torch.Tensor) -> torch.Tensor:
        """Of every label of every task, `(..., num_outputs)`."""
        probabilities = []
        for name, task_logits in self.config.split_logits(logits.float()).items():
            scaled = task_logits / self.config.task_temperature(name)
            multi_label = self.config.task(name)["type"] == "multi_label"
            probabilities.append(scaled.sigmoid() if multi_label else scaled.softmax(dim=-1))
        return torch.cat(probabilities, dim=-1)

    def _token_seconds(
        self, num_tokens: int, waveform: torch.Tensor | None, spectrogram: torch.Tensor | None
    ) -> torch.Tensor:
        """Start and end of each token; the last one ends with the clip at the latest."""
        if waveform is not None:
            num_samples = waveform.shape[1]
        else:
            assert spectrogram is not None
            num_samples = spectrogram.shape[1] * self.config.feature["hop_length"]
        edges = torch.arange(num_tokens + 1) * self.config.samples_per_token
        edges = edges.clamp(max=num_samples).double() / self.config.sampling_rate
        return torch.stack([edges[:-1], edges[1:]], dim=1).float()


def _joined(parts: list[tuple[torch.Tensor | None, torch.Tensor]], num_rows: int) -> torch.Tensor:
    """Rows in the order of the batch, with zeros behind those whose last axis is shorter."""
    if len(parts) == 1:
        return parts[0][1]
    length = max(part.shape[-1] for _, part in parts)
    whole = parts[0][1].new_zeros((num_rows, *parts[0][1].shape[1:-1], length))
    for rows, part in parts:
        whole[rows, ..., : part.shape[-1]] = part
    return whole
