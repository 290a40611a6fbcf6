# SPDX-License-Identifier: Apache-2.0
"""What all taggers share: batches of clips of different lengths, several windows to a clip, and the loss."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from transformers import PreTrainedModel

from .configuration_tagging import TaggerConfig
from .objectives import losses_of_forward
from .outputs import MusicTaggerModelOutput, MusicTaggerOutput
from .pooling import mean_over_windows

if TYPE_CHECKING:
    # Saving a model copies the files its module names, and those that they name: with these two lines the extractor
    # and the pipeline come along, so that the folder serves `pipeline(...)` too.
    from .feature_extraction_music_tagging import MusicTaggingFeatureExtractor  # noqa: F401
    from .pipeline_music_tagging import MusicTaggingPipeline  # noqa: F401


class TaggerPreTrainedModel(PreTrainedModel):
    """What the base models and the classifiers of all taggers share."""

    config: TaggerConfig
    main_input_name = "input_values"
    input_modalities = ("audio",)

    def __init__(self, config: TaggerConfig) -> None:
        config.check()
        super().__init__(config)

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        # Upstream trained from torch's own draws. Batch norms are left to the base class: torch resets their statistics
        # even where these were just loaded.
        reset: Any = getattr(module, "reset_parameters", None)
        if callable(reset) and not hasattr(module, "running_mean"):
            reset()
        else:
            super()._init_weights(module)

    def _wants_dict(self, return_dict: bool | None) -> bool:
        return self.config.return_dict if return_dict is None else return_dict


class TaggerModel(TaggerPreTrainedModel):
    """Base of the base models: audio of any lengths to one embedding each.

    A subclass gives `embed`, which sees rows of one length and no padding.
    """

    _auto_class = "AutoModel"

    def embed(
        self,
        input_values: torch.Tensor | None,
        input_features: torch.Tensor | None,
        output_hidden_states: bool,
        output_attentions: bool,
    ) -> MusicTaggerModelOutput:
        """Embed rows of equal length.

        Args:
            input_values: `(batch_size, num_samples)`, or `None`.
            input_features: Instead `(batch_size, num_frames, num_mel_bins)`, compressed as the config's `feature` says.
            output_hidden_states: Also return the states on the way.
            output_attentions: Also return the attention weights, where there are any.

        Raises:
            ValueError: The model does not take this length.
        """
        raise NotImplementedError

    def forward(
        self,
        input_values: torch.Tensor | None = None,
        input_features: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        output_hidden_states: bool = False,
        output_attentions: bool = False,
        return_dict: bool | None = None,
    ) -> MusicTaggerModelOutput | tuple[Any, ...]:
        """Embed clips.

        Rows of the same length go through the model together, without their padding: it changes nothing.

        Args:
            input_values: Waveform in [-1, 1], `(batch_size, num_samples)` at the config's `sampling_rate`.
            input_features: Instead: what the model would compute of it, `(batch_size, num_frames, num_mel_bins)`.
            attention_mask: `(batch_size, num_samples)`, or `(batch_size, num_frames)` beside `input_features`: 1 for
                sound, 0 for padding, which stands at the end.
            output_hidden_states: Also return the states on the way; where rows have different lengths, those of shorter
                ones end in zeros along every axis that grows with time.
            output_attentions: Also return the attention weights, likewise, of models that have attention.
            return_dict: `False` for a plain tuple.

        Raises:
            ValueError: Both inputs or none came, the mask has holes, or the model does not take this length.
        """
        groups = rows_of_one_length(input_values, input_features, attention_mask)
        outputs = [
            self.embed(waveform, spectrogram, output_hidden_states, output_attentions)
            for _, waveform, spectrogram in groups
        ]
        output = outputs[0] if len(groups) == 1 else _put_together([rows for rows, _, _ in groups], outputs)
        return output if self._wants_dict(return_dict) else output.to_tuple()


class TaggerForAudioClassification(TaggerPreTrainedModel):
    """Base of the classifiers: a base model and the head that `classify` is."""

    _auto_class = "AutoModelForAudioClassification"

    def __init__(self, config: TaggerConfig) -> None:
        labels = config.tasks[0]["labels"]
        if list(config.id2label.values()) != labels:
            raise ValueError(
                f"The config's `id2label` has {len(config.id2label)} labels and its first task {len(labels)}, or in "
                "another order: pass `id2label` or `num_labels` when the config is made or loaded, not afterwards."
            )
        super().__init__(config)

    def encode(
        self,
        input_values: torch.Tensor | None,
        input_features: torch.Tensor | None,
        attention_mask: torch.Tensor | None,
        output_hidden_states: bool,
        output_attentions: bool,
    ) -> Any:
        """What the base model computes, a `MusicTaggerModelOutput`; arguments as for its `forward`."""
        return self.base_model(
            input_values,
            input_features,
            attention_mask=attention_mask,
            output_hidden_states=output_hidden_states,
            output_attentions=output_attentions,
            return_dict=True,
        )

    def classify(self, embeddings: torch.Tensor) -> torch.Tensor:
        """Logits of all labels of all tasks, `(batch_size, num_outputs)`."""
        raise NotImplementedError

    def forward(
        self,
        input_values: torch.Tensor | None = None,
        input_features: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        windows_per_clip: torch.Tensor | None = None,
        labels: Mapping[str, torch.Tensor] | torch.Tensor | None = None,
        output_hidden_states: bool = False,
        output_attentions: bool = False,
        return_dict: bool | None = None,
    ) -> MusicTaggerOutput | tuple[Any, ...]:
        """Tag windows of audio, or whole clips of several windows.

        Args:
            input_values: Waveform in [-1, 1], `(batch_size, num_samples)` at the config's `sampling_rate`.
            input_features: Instead: what the model would compute of it, `(batch_size, num_frames, num_mel_bins)`.
            attention_mask: 1 for sound, 0 for padding at the end, of the input's first two axes.
            windows_per_clip: `(num_clips,)`: how many consecutive windows belong to each clip. The logits of a clip are
                then those of the mean of its windows' probabilities. `None`: every window is a clip.
            labels: Per task, multi-hot `(num_clips, num_labels)` or class indices `(num_clips,)`, -100 where unknown;
                a bare tensor holds the first task's.
            output_hidden_states: See the base model's `forward`.
            output_attentions: See the base model's `forward`.
            return_dict: `False` for a plain tuple.

        Returns:
            See `MusicTaggerOutput`.
        """
        base = self.encode(input_values, input_features, attention_mask, output_hidden_states, output_attentions)
        task_logits = self.config.split_logits(self.classify(base.embeddings))
        if windows_per_clip is not None:
            task_logits = {
                task["name"]: _logits_of_clips(task["type"], task_logits[task["name"]], windows_per_clip)
                for task in self.config.tasks
            }
            base.embeddings = mean_over_windows(base.embeddings, windows_per_clip)
        loss, task_losses = losses_of_forward(task_logits, labels, self.config)
        output = MusicTaggerOutput(
            loss=loss,
            logits=task_logits[self.config.task_names[0]],
            task_logits=task_logits,
            task_losses=task_losses,
            embeddings=base.embeddings,
            hidden_states=base.hidden_states,
            attentions=base.attentions,
        )
        return output if self._wants_dict(return_dict) else output.to_tuple()


def rows_of_one_length(
    input_values: torch.Tensor | None, input_features: torch.Tensor | None, attention_mask: torch.Tensor | None
) -> list[tuple[torch.Tensor | None, torch.Tensor | None, torch.Tensor | None]]:
    """A batch as batches without padding, the shortest rows first.

    Args:
        input_values: `(batch_size, num_samples)`, or `None`.
        input_features: Instead `(batch_size, num_frames, num_mel_bins)`.
        attention_mask: Of the first two axes, 1 up to the end of each clip; `None`: nothing is padded.

    Returns:
        For each length: which rows have it, `None` for all; and their `input_values` and `input_features`.

    Raises:
        ValueError: Both inputs or none came, or the mask has holes or a row without sound.
    """
    if (input_values is None) == (input_features is None):
        raise ValueError("Pass one of `input_values` (a waveform) and `input_features` (a spectrogram), not both.")
    inputs = input_values if input_values is not None else input_features
    assert inputs is not None
    parts: list[tuple[torch.Tensor | None, torch.Tensor | None, torch.Tensor | None]] = []
    for rows, length in _rows_by_length(inputs, attention_mask):
        part = inputs[:, :length] if rows is None else inputs[rows, :length]
        parts.append((rows, part, None) if input_values is not None else (rows, None, part))
    return parts


def _rows_by_length(inputs: torch.Tensor, attention_mask: torch.Tensor | None) -> list[tuple[torch.Tensor | None, int]]:
    """Rows of each length that occurs, and the length; `None` for all rows."""
    if attention_mask is None:
        return [(None, inputs.shape[1])]
    if attention_mask.shape != inputs.shape[:2]:
        raise ValueError(
            f"`attention_mask` has shape {tuple(attention_mask.shape)}; the input asks for {tuple(inputs.shape[:2])}."
        )
    lengths = (attention_mask != 0).sum(dim=1)
    if not bool((attention_mask.ne(0).int().diff(dim=1) <= 0).all()):
        raise ValueError("`attention_mask` must be 1 up to the end of each clip and 0 after it; it has holes.")
    found = sorted(set(lengths.tolist()))
    if found[0] == 0:
        raise ValueError("A row of `attention_mask` is all 0: there is no sound to hear. Leave that clip out.")
    if len(found) == 1:
        return [(None, found[0])]
    return [((lengths == length).nonzero()[:, 0], length) for length in found]


def _put_together(rows: list[Any], outputs: list[MusicTaggerModelOutput]) -> MusicTaggerModelOutput:
    """One output in the order of the batch."""
    return MusicTaggerModelOutput(
        embeddings=joined_rows(rows, [output.embeddings for output in outputs]),
        hidden_states=joined_layers(rows, [output.hidden_states for output in outputs]),
        attentions=joined_layers(rows, [output.attentions for output in outputs]),
    )


def joined_rows(rows: list[torch.Tensor], parts: list[Any], fill: float = 0) -> torch.Tensor:
    """Tensors of some rows of a batch each as one of all, in the order of the batch.

    Args:
        rows: For each part, which rows of the batch it holds.
        parts: `(num_rows, ...)` each; what is shorter along an axis is filled at its end.
        fill: With this.
    """
    order = torch.cat(rows).argsort()
    shape = [max(sizes) for sizes in zip(*(part.shape[1:] for part in parts), strict=True)]
    whole = parts[0].new_full((len(order), *shape), fill)
    first = 0
    for part in parts:
        whole[(slice(first, first + len(part)), *map(slice, part.shape[1:]))] = part
        first += len(part)
    return whole[order]


def joined_layers(rows: list[torch.Tensor], layers: list[Any]) -> tuple[torch.Tensor, ...] | None:
    """`joined_rows` of every layer; `None` where there are none."""
    if layers[0] is None:
        return None
    return tuple(joined_rows(rows, list(parts)) for parts in zip(*layers, strict=True))


def _logits_of_clips(task_type: str, logits: torch.Tensor, windows_per_clip: torch.Tensor) -> torch.Tensor:
    """Logits whose probabilities are the means of those of each clip's windows.

    `log(mean p) - log(mean (1 - p))` by sums of exponentials of log-probabilities, which loses nothing near 0 and 1.
    """
    counts = windows_per_clip.tolist()
    if counts and min(counts) < 1:
        raise ValueError(f"`windows_per_clip` is {counts}; every clip has at least one window.")
    if sum(counts) != len(logits):
        raise ValueError(f"`windows_per_clip` counts {sum(counts)} windows, the batch holds {len(logits)}.")
    logits = logits.float()

    def log_mean(log_probabilities: torch.Tensor) -> torch.Tensor:
        parts = log_probabilities.split(counts)
        return torch.stack([part.logsumexp(dim=0) - torch.tensor(len(part)).log() for part in parts])

    if task_type == "single_label":
        return log_mean(logits.log_softmax(dim=-1))
    log_sigmoid = torch.nn.functional.logsigmoid
    return log_mean(log_sigmoid(logits)) - log_mean(log_sigmoid(-logits))
