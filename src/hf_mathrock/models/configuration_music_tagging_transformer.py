# SPDX-License-Identifier: Apache-2.0
"""Configuration of the Music Tagging Transformer."""

from __future__ import annotations

import math
from typing import Any

from .configuration_features import fill_feature, filled_mel, shortest_feature
from .configuration_tagging import NormalisedTaggerConfig
from .configuration_values import check_value

# Where the travelling code stands: written into every config, so that any save can be loaded by any Auto class.
AUTO_MAP = {
    "AutoConfig": "configuration_music_tagging_transformer.MusicTaggingTransformerConfig",
    "AutoFeatureExtractor": "feature_extraction_music_tagging.MusicTaggingFeatureExtractor",
    "AutoModel": "modeling_music_tagging_transformer.MusicTaggingTransformerModel",
    "AutoModelForAudioClassification": (
        "modeling_music_tagging_transformer.MusicTaggingTransformerForAudioClassification"
    ),
}

_FEATURE = {
    "kind": "mel",
    "n_fft": 1024,
    "hop_length": 512,
    "num_mel_bins": 128,
    "min_frequency_hz": 0.0,
    "mel_scale": "htk",
    "mel_norm": None,
    "pad_mode": "reflect",
    "compression": "db",
}


_POSITIVE = (
    *("sampling_rate", "input_samples", "conv_channels", "hidden_size", "num_hidden_layers", "num_attention_heads"),
    *("intermediate_size", "max_positions"),
)


def _check_pools(pools: Any) -> None:
    if not isinstance(pools, list | tuple) or not pools:
        raise ValueError(f"`conv_pools` is {pools!r}; it must list [bins, frames] for at least one residual module.")
    for pool in pools:
        if not isinstance(pool, list | tuple) or len(pool) != 2 or not all(type(n) is int and n >= 1 for n in pool):
            raise ValueError(f"`conv_pools` holds {pool!r}; each entry is [bins, frames], whole numbers from 1 on.")


class MusicTaggingTransformerConfig(NormalisedTaggerConfig):
    """What a Music Tagging Transformer is made of.

    The defaults are the paper's teacher (4,567,732 parameters with 50 labels); `hidden_size=64` is its compact student
    (1,108,852). The class defaults upstream (16 convolution channels) are neither.

    Args:
        sampling_rate: Hz of the audio that the model hears.
        input_samples: Samples at that rate that it was trained on, the length of a window; 220500 (10 s) as upstream
            ships it. The paper trains on 5 to 30 s.
        feature: The mel spectrogram, see `configuration_features`; keys given here replace the default's, whose bins
            reach up to half the sampling rate.
        feature_batch_norm: Whether the spectrogram is normalised over all its bins and frames.
        conv_channels: Channels of every residual module.
        conv_pools: Max-pooling of every residual module, `[bins, frames]`; its length is the number of modules.
        hidden_size: Width of a token, a multiple of `num_attention_heads`.
        num_hidden_layers: Layers of the encoder.
        num_attention_heads: Heads of attention.
        intermediate_size: Width between the two linear layers of a layer; `None`: four times `hidden_size`.
        hidden_dropout: Of tokens, activations and residual branches, in [0, 1); attention weights are not dropped.
        max_positions: Most tokens that fit into the model: 512 are 47.6 s.
        batch_norm_eps: Of every batch norm.
        layer_norm_eps: Of every layer norm.
        tasks: See `TaskConfig`, as are `thresholds`, `temperatures`, `focal_gamma` and `label_smoothing`.

    Raises:
        ValueError: A field is not well formed, the spectrogram has too few bins for the pooling, or `input_samples`
            does not fit into the model; the message names it.

    Source: Won, Choi and Serra, "Semi-supervised music tagging transformer", ISMIR 2021, and its code (MIT).
    """

    model_type = "music_tagging_transformer"
    code_files = AUTO_MAP

    sampling_rate: int = 22_050
    input_samples: int = 220_500
    conv_channels: int = 128
    conv_pools: Any = None
    hidden_size: int = 256
    num_hidden_layers: int = 4
    num_attention_heads: int = 8
    intermediate_size: Any = None
    hidden_dropout: float = 0.1
    max_positions: int = 512
    layer_norm_eps: float = 1e-5

    def __post_init__(self, **kwargs: Any) -> None:
        check_value("sampling_rate", self.sampling_rate, 1, "`sampling_rate`")
        top = {"max_frequency_hz": self.sampling_rate / 2}
        self.feature = filled_mel({**_FEATURE, **top}, self.feature)
        if self.conv_pools is None:
            self.conv_pools = [[2, 2], [2, 2], [2, 1]]
        if self.intermediate_size is None:
            self.intermediate_size = 4 * self.hidden_size
        _check_pools(self.conv_pools)
        self.conv_pools = [list(pool) for pool in self.conv_pools]
        super().__post_init__(**kwargs)

    def check(self) -> None:
        super().check()
        if self.feature != filled_mel(self.feature):
            raise ValueError(f"`feature` lacks {sorted(set(fill_feature(self.feature)) - set(self.feature))}.")
        for name in _POSITIVE:
            check_value(name, getattr(self, name), 1, f"`{name}`")
        check_value("hidden_dropout", self.hidden_dropout, 0.1, "`hidden_dropout`")
        check_value("layer_norm_eps", self.layer_norm_eps, 1e-5, "`layer_norm_eps`")
        if self.hidden_size % self.num_attention_heads:
            raise ValueError(
                f"`hidden_size` is {self.hidden_size} and `num_attention_heads` {self.num_attention_heads}: the first "
                "must be a multiple of the second."
            )
        _check_pools(self.conv_pools)
        if self.num_pooled_bins < 1:
            raise ValueError(
                f"`conv_pools` takes {math.prod(pool[0] for pool in self.conv_pools)} bins together, and the "
                f"spectrogram has {self.feature['num_mel_bins']}: pool less, or raise `num_mel_bins` in `feature`."
            )
        if not self.min_samples <= self.input_samples <= self.max_samples:
            raise ValueError(
                f"`input_samples` is {self.input_samples}; {self.min_samples} to {self.max_samples} samples at "
                f"{self.sampling_rate} Hz fit into 1 to {self.max_positions} tokens: change it, or `max_positions`."
            )

    @property
    def num_pooled_bins(self) -> int:
        """Bins of the spectrogram that are left after the pooling."""
        return self.feature["num_mel_bins"] // math.prod(pool[0] for pool in self.conv_pools)

    @property
    def samples_per_token(self) -> int:
        """Samples between the starts of two tokens."""
        return self.feature["hop_length"] * math.prod(pool[1] for pool in self.conv_pools)

    @property
    def accepts_any_length(self) -> bool:
        """True: from `min_samples` to `max_samples`."""
        return True

    @property
    def min_samples(self) -> int:
        """The fewest samples that make a token."""
        fewest = self.samples_per_token - self.feature["hop_length"]
        return max(fewest, shortest_feature(self.feature))

    @property
    def max_samples(self) -> int:
        """The most samples for whose tokens there are positions."""
        return (self.max_positions + 1) * self.samples_per_token - self.feature["hop_length"] - 1
