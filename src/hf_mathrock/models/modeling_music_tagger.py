# SPDX-License-Identifier: Apache-2.0
"""Music taggers as chains of stages: feature, front end, back end, head, all of them as the configuration says."""

from __future__ import annotations

from typing import cast

import torch
from torch import nn

from .configuration_features import feature_shape
from .configuration_music_tagger import ACTIVATIONS, BACKEND_CLASSES, MusicTaggerConfig, fill_part
from .modeling_tagging import TaggerModel, TaggerPreTrainedModel
from .outputs import MusicTaggerModelOutput
from .tagger_contributions import TagContributionsMixin
from .tagger_encoder import TaggerEncoder
from .tagger_features import TaggerFeatures
from .tagger_pooling import TemporalBackend
from .tagger_stages import build, build_stages, counted_once, fill_stage, size_text, trace_stages


class MusicTaggerPreTrainedModel(TaggerPreTrainedModel):
    """What the base model and the classifier share.

    Weights start as torch draws them, as in the code that the published figures come from.
    """

    config_class = MusicTaggerConfig
    base_model_prefix = "music_tagger"
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    # Statistics of decibels, and the quality of the harmonic filters, need more digits than half precision has.
    _keep_in_fp32_modules_strict = ["batch_norm", "features"]


class MusicTaggerModel(MusicTaggerPreTrainedModel, TaggerModel):
    """A music tagger without its head: a clip to one embedding.

    The states on the way are those behind each stage, `(batch_size, channels, bands, frames)` or `(batch_size,
    channels, steps)`, and those inside a temporal back end; with an encoder they are its tokens instead, the class
    token first, before and behind each layer, `(batch_size, 1 + num_tokens, hidden_size)`.

    With the architecture "cnnsa" the class token is learnt. Upstream's is a random vector that is neither learnt nor
    saved, so the model here has 256 parameters more.

    Raises:
        ValueError: The stages do not fit together; the message says which one, its options, and what size arrives.
    """

    def __init__(self, config: MusicTaggerConfig) -> None:
        super().__init__(config)
        shapes = _traced(config)
        self.features = TaggerFeatures(config)
        channels = shapes[0][0]
        self.feature_batch_norm: nn.Module | None = None
        if config.feature_batch_norm:
            norm = nn.BatchNorm1d if len(shapes[0]) == 2 else nn.BatchNorm2d
            self.feature_batch_norm = norm(channels, eps=config.batch_norm_eps)
        self.stages = build_stages(config.stages, channels, config.settled)
        self.flatten: nn.Linear | None = None
        size = shapes[-1][0]
        if config.collapse["kind"] == "flatten_linear":
            self.flatten = nn.Linear(size * (shapes[-1][1] if len(shapes[-1]) == 3 else 1), config.collapse["size"])
            size = config.collapse["size"]
        self.gru: nn.GRU | None = None
        self.encoder: TaggerEncoder | None = None
        self.temporal: TemporalBackend | None = None
        options = {name: value for name, value in config.backend.items() if name != "kind"}
        kind = config.backend["kind"]
        if kind == "gru":
            self.gru = nn.GRU(size, batch_first=True, **options)
            size = options["hidden_size"] * (2 if options["bidirectional"] else 1)
        elif kind in BACKEND_CLASSES:
            backend = build(BACKEND_CLASSES[kind], size, options, config.settled)
            setattr(self, kind, backend)
            size = getattr(backend, "out_channels", size)
        self.embedding_size = int(size)
        self.gradient_checkpointing = False
        self.post_init()

    def embed(
        self,
        input_values: torch.Tensor | None,
        input_features: torch.Tensor | None,
        output_hidden_states: bool = False,
        output_attentions: bool = False,
    ) -> MusicTaggerModelOutput:
        """Embed rows of equal length.

        Args:
            input_values: `(batch_size, num_samples)`, or `None`.
            input_features: Instead, for a mel feature, `(batch_size, num_frames, num_mel_bins)`, compressed as the
                config says.
            output_hidden_states: Also return the states on the way.
            output_attentions: Also return an encoder's attention weights.

        Raises:
            ValueError: The model hears another length, or the clip is too short for its pools.
        """
        states = self._through_stages(input_values, input_features, keep_all=output_hidden_states)
        attentions = None
        if self.encoder is not None:
            encoded = self.encoder(self._sequence(states[-1]).transpose(1, 2), output_hidden_states, output_attentions)
            embeddings, attentions = encoded.states[:, 0], encoded.attentions
            states = list(encoded.hidden_states or ())
        elif self.temporal is not None:
            embeddings, inner = self.temporal.forward_with_states(self._sequence(states[-1]))
            states.extend(inner)
        else:
            embeddings = self._over_time(self._sequence(states[-1]))
        return MusicTaggerModelOutput(
            embeddings=embeddings, hidden_states=tuple(states) if output_hidden_states else None, attentions=attentions
        )

    def tokens(self, input_values: torch.Tensor | None, input_features: torch.Tensor | None) -> torch.Tensor:
        """What the back end hears, `(batch_size, num_tokens, size)`; arguments as for `embed`."""
        return self._sequence(self._through_stages(input_values, input_features)[-1]).transpose(1, 2)

    def _through_stages(
        self, input_values: torch.Tensor | None, input_features: torch.Tensor | None, keep_all: bool = False
    ) -> list[torch.Tensor]:
        """States behind each stage, or behind the last one alone."""
        self._check_length(input_values, input_features)
        if input_values is not None:
            state = self.features(input_values)
        else:
            state = cast(torch.Tensor, input_features).transpose(1, 2).unsqueeze(1)
        if self.feature_batch_norm is not None:
            state = self.feature_batch_norm(state.to(self.feature_batch_norm.weight.dtype))
        state = state.to(self._working_dtype())
        states: list[torch.Tensor] = []
        for stage in self.stages:
            if self.gradient_checkpointing and self.training and torch.is_grad_enabled():
                state = self._gradient_checkpointing_func(counted_once(stage), state)
            else:
                state = stage(state)
            states = [*states, state] if keep_all else [state]
        return states

    def _working_dtype(self) -> torch.dtype:
        """That of the first matrix of the stages, or else of anything: batch norms may have another."""
        weights = list(self.stages.parameters())
        return next((weight.dtype for weight in weights if weight.dim() > 1), weights[0].dtype)

    def _sequence(self, state: torch.Tensor) -> torch.Tensor:
        """Without bands, `(batch_size, size, num_tokens)`."""
        if self.flatten is not None:
            return self.flatten(state.flatten(1, -2).transpose(1, 2)).transpose(1, 2)
        if state.dim() == 3:
            return state
        if self.config.collapse["kind"] == "squeeze":
            return state.squeeze(2)
        return state.amax(dim=2) if self.config.collapse["kind"] == "max" else state.mean(dim=2)

    def _over_time(self, sequence: torch.Tensor) -> torch.Tensor:
        """One embedding of a sequence, `(batch_size, size)`."""
        if self.gru is not None:
            _, last = self.gru(sequence.transpose(1, 2))
            return last[-2:].transpose(0, 1).flatten(1) if self.gru.bidirectional else last[-1]
        if self.config.backend["kind"] == "none":
            return sequence.squeeze(2)
        return sequence.amax(dim=2) if self.config.backend["kind"] == "max" else sequence.mean(dim=2)

    def _check_length(self, input_values: torch.Tensor | None, input_features: torch.Tensor | None) -> None:
        config = self.config
        kind = config.feature["kind"]
        hop = config.feature.get("hop_length", 1)
        if input_values is None:
            features = cast(torch.Tensor, input_features)
            if kind != "mel":
                raise ValueError(f"This model computes its {kind!r} feature itself: pass `input_values`.")
            bands = config.feature["num_mel_bins"]
            if features.dim() != 3 or features.shape[2] != bands or features.shape[1] == 0:
                raise ValueError(
                    f"`input_features` has shape {tuple(features.shape)}; expected (batch_size, num_frames, {bands})."
                )
            came, unit, per_unit = features.shape[1], "frames", hop
            wanted, least = 1 + config.input_samples // hop, 1 + config.min_samples // hop
        else:
            if input_values.dim() != 2:
                raise ValueError(
                    f"`input_values` has shape {tuple(input_values.shape)}; expected (batch_size, num_samples), mono."
                )
            came, unit, per_unit = input_values.shape[1], "samples", 1
            wanted, least = config.input_samples, config.min_samples
        rate = config.sampling_rate / per_unit
        heard = f"{came} {unit} came ({came / rate:.3f} s at {config.sampling_rate} Hz)"
        if not config.accepts_any_length and came != wanted:
            raise ValueError(
                f"{heard}; this {config.architecture!r} model hears exactly {wanted} ({wanted / rate:.3f} s), since it "
                "does not pool over time. Pass audio through the feature extractor, which cuts and repeats it to that "
                "length, or make a model with `backend={'kind': 'max'}`, which hears any length."
            )
        if came < wanted and came < least:
            raise ValueError(
                f"{heard}; this model needs at least {least} ({least / rate:.3f} s): of less nothing is left behind "
                f"the pools and strides of its {len(config.stages)} stages. Pass short audio through the feature "
                "extractor, which repeats it."
            )


class MusicTaggerForAudioClassification(MusicTaggerPreTrainedModel, TagContributionsMixin):
    """A music tagger and its head: one logit per label, a hidden layer before them where the config has one."""

    def __init__(self, config: MusicTaggerConfig) -> None:
        super().__init__(config)
        self.music_tagger = MusicTaggerModel(config)
        size, head = self.music_tagger.embedding_size, fill_part("head", config.head)
        self.hidden: nn.Sequential | None = None
        if head["hidden"] is not None:
            self.hidden = nn.Sequential()
            self.hidden.add_module("linear", nn.Linear(size, head["hidden"]))
            if head["batch_norm"]:
                self.hidden.add_module("batch_norm", nn.BatchNorm1d(head["hidden"], eps=config.batch_norm_eps))
            self.hidden.add_module("activation", ACTIVATIONS[head["activation"]]())
            size = head["hidden"]
        self.dropout = nn.Dropout(head["dropout"])
        self.classifier = nn.Linear(size, config.num_outputs)
        self.post_init()

    def classify(self, embeddings: torch.Tensor) -> torch.Tensor:
        """Logits of all labels of all tasks; see the base class."""
        if self.hidden is not None:
            embeddings = self.hidden(embeddings)
        return self.classifier(self.dropout(embeddings))


def _traced(config: MusicTaggerConfig) -> list[tuple[int, ...]]:
    """Sizes from the feature to the last stage, or why the config makes no model."""
    for name in ("feature", "collapse", "backend", "head"):
        setattr(config, name, fill_part(name, getattr(config, name)))
    config.stages = [fill_stage(stage, index, config.settled) for index, stage in enumerate(config.stages)]
    shape = feature_shape(config.feature, config.sampling_rate, config.input_samples)
    with torch.device("meta"):
        blocks = build_stages(config.stages, shape[0], config.settled).eval()
        shapes = trace_stages(blocks, config.stages, shape)
    last, kind = shapes[-1], config.backend["kind"]
    came = f"{size_text(last)} come out of the last of {len(config.stages)} stages for {config.input_samples} samples"
    if len(last) == 3 and last[1] != 1 and config.collapse["kind"] == "squeeze":
        raise ValueError(
            f"{came}, and `collapse` is 'squeeze', which takes one band: pool or stride more, or change `collapse` to "
            "'max', 'mean' or 'flatten_linear'."
        )
    if kind == "none" and last[-1] != 1:
        raise ValueError(
            f"{came}, and `backend` is 'none', which takes one step in time: pool or stride more, or change `backend` "
            "to 'max', 'mean' or 'gru'."
        )
    positions = config.backend.get("num_positions")
    if positions is not None and last[-1] > positions:
        raise ValueError(f"{came}, and `backend['num_positions']` is {positions}: raise it, or pool or stride more.")
    if kind == "temporal":
        options = {name: value for name, value in config.backend.items() if name != "kind"}
        with torch.device("meta"):
            needed = TemporalBackend(1, **options).minimum_frames
        if last[-1] < needed:
            raise ValueError(
                f"{came}, and the convolutions of `backend` need {needed} steps in time: pool or stride less, or give "
                "longer audio (`input_samples`)."
            )
    return shapes
