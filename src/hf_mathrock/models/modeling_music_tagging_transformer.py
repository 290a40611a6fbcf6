# SPDX-License-Identifier: Apache-2.0
"""The Music Tagging Transformer: convolutions hear the sound of a moment, attention its place in the music."""

from __future__ import annotations

import torch
from torch import nn

from .configuration_music_tagging_transformer import MusicTaggingTransformerConfig
from .modeling_tagging import TaggerModel
from .outputs import MusicTaggerModelOutput
from .tagger_contributions import TagContributionsMixin
from .tagger_encoder import TaggerEncoder
from .tagger_features import TaggerFeatures
from .tagger_stages import Residual2dBlock, counted_once


class MusicTaggingTransformerModel(TaggerModel):
    """The Music Tagging Transformer without its head.

    It hears audio from `config.min_samples` to `config.max_samples`. The `embeddings` are the class token's state after
    the last layer, before the head's norm; the `hidden_states` are the encoder's, the class token first.
    """

    config: MusicTaggingTransformerConfig
    config_class = MusicTaggingTransformerConfig
    base_model_prefix = "music_tagging_transformer"
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    _no_split_modules = ["Residual2dBlock", "TaggerEncoderLayer"]
    # Running statistics would lose too much in half precision; their counters stay whole numbers.
    _keep_in_fp32_modules_strict = [r"batch_norm\d?\.(?!num_batches_tracked)"]

    def __init__(self, config: MusicTaggingTransformerConfig) -> None:
        super().__init__(config)
        self.features = TaggerFeatures(config)
        self.feature_batch_norm: nn.Module = nn.Identity()
        if config.feature_batch_norm:
            self.feature_batch_norm = nn.BatchNorm2d(1, eps=config.batch_norm_eps)
        self.stages = nn.ModuleList(
            Residual2dBlock(
                config.conv_channels if index else 1,
                config.conv_channels,
                pool=pool,
                batch_norm_eps=config.batch_norm_eps,
            )
            for index, pool in enumerate(config.conv_pools)
        )
        self.projection = nn.Linear(config.conv_channels * config.num_pooled_bins, config.hidden_size)
        self.encoder = TaggerEncoder(
            config.hidden_size,
            config.num_hidden_layers,
            config.num_attention_heads,
            config.intermediate_size,
            norm="pre",
            qkv_bias=False,
            hidden_dropout=config.hidden_dropout,
            activation_dropout=config.hidden_dropout,
            token_dropout=config.hidden_dropout,
            layer_norm_eps=config.layer_norm_eps,
            num_positions=config.max_positions,
        )
        self.gradient_checkpointing = False
        self.post_init()

    def embed(
        self,
        input_values: torch.Tensor | None,
        input_features: torch.Tensor | None,
        output_hidden_states: bool,
        output_attentions: bool,
    ) -> MusicTaggerModelOutput:
        """Embed rows of equal length; see the base class."""
        encoded = self.encoder(self.tokens(input_values, input_features), output_hidden_states, output_attentions)
        return MusicTaggerModelOutput(
            embeddings=encoded.states[:, 0], hidden_states=encoded.hidden_states, attentions=encoded.attentions
        )

    def tokens(self, input_values: torch.Tensor | None, input_features: torch.Tensor | None) -> torch.Tensor:
        """What the encoder hears, without positions and class token, `(batch_size, num_tokens, hidden_size)`.

        Args:
            input_values: `(batch_size, num_samples)`, or `None`.
            input_features: Instead `(batch_size, num_frames, num_mel_bins)`, compressed as the config's `feature` says.

        Returns:
            One token per `config.samples_per_token` samples; frames at the end that fill none are left out:
            `num_tokens = (1 + num_samples // hop_length) // 4` with the default pools.

        Raises:
            ValueError: The audio is too short for one token, or has more tokens than there are positions.
        """
        self._check_size(input_values, input_features)
        if input_values is not None:
            states = self.features(input_values)
        else:
            assert input_features is not None
            states = input_features.transpose(1, 2).unsqueeze(1)
        norm_dtype = next(self.feature_batch_norm.parameters(), self.projection.weight).dtype
        states = self.feature_batch_norm(states.to(norm_dtype)).to(self.projection.weight.dtype)
        checkpointing = self.gradient_checkpointing and self.training and torch.is_grad_enabled()
        for stage in self.stages:
            states = self._gradient_checkpointing_func(counted_once(stage), states) if checkpointing else stage(states)
        # Channel by channel, and the bins of each.
        return self.projection(states.flatten(1, 2).transpose(1, 2))

    def _check_size(self, input_values: torch.Tensor | None, input_features: torch.Tensor | None) -> None:
        config = self.config
        hop, rate, bins = config.feature["hop_length"], config.sampling_rate, config.feature["num_mel_bins"]
        if input_values is not None:
            if input_values.dim() != 2:
                raise ValueError(
                    f"`input_values` has shape {tuple(input_values.shape)}; expected (batch_size, num_samples), mono."
                )
            num_samples = input_values.shape[1]
            num_frames, too_short = 1 + num_samples // hop, num_samples < config.min_samples
            came = f"{num_samples} samples ({num_samples / rate:.2f} s at {rate} Hz)"
        else:
            assert input_features is not None
            if input_features.dim() != 3 or input_features.shape[2] != bins:
                raise ValueError(
                    f"`input_features` has shape {tuple(input_features.shape)}; expected (batch_size, num_frames, "
                    f"{bins})."
                )
            num_frames = input_features.shape[1]
            too_short = num_frames * hop < config.samples_per_token
            came = f"{num_frames} frames ({num_frames * hop / rate:.2f} s)"
        if too_short:
            raise ValueError(
                f"{came} came; this model needs at least {config.min_samples} samples, or "
                f"{config.samples_per_token // hop} frames, for one token. Pass short audio through the feature "
                "extractor, which repeats it."
            )
        if (num_tokens := num_frames * hop // config.samples_per_token) > config.max_positions:
            raise ValueError(
                f"{came} came: {num_tokens} tokens, and this model has positions for {config.max_positions}, which are "
                f"{config.max_samples / rate:.1f} s. Cut the audio into windows, as the feature extractor and the "
                "pipeline do, or train a model with a higher `max_positions`."
            )


class MusicTaggingTransformerForAudioClassification(TagContributionsMixin):
    """The Music Tagging Transformer and its head, one logit per label.

    Source: Won, Choi and Serra, "Semi-supervised music tagging transformer", ISMIR 2021, and its code (MIT). There a
    sigmoid follows, which here is left to the caller.
    """

    config: MusicTaggingTransformerConfig
    config_class = MusicTaggingTransformerConfig
    base_model_prefix = "music_tagging_transformer"
    supports_gradient_checkpointing = True
    _supports_sdpa = True

    def __init__(self, config: MusicTaggingTransformerConfig) -> None:
        super().__init__(config)
        self.music_tagging_transformer = MusicTaggingTransformerModel(config)
        self.norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.classifier = nn.Linear(config.hidden_size, config.num_outputs)
        self.post_init()

    def classify(self, embeddings: torch.Tensor) -> torch.Tensor:
        """Logits of all labels of all tasks; see the base class."""
        return self.classifier(self.norm(embeddings))
