# SPDX-License-Identifier: Apache-2.0
"""Configuration of Myna, a transformer over patches of a track's mel spectrogram."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from typing import Any

from .configuration_features import check_below_half_the_rate, check_names, fill_feature, filled_mel
from .configuration_tagging import TaggerConfig
from .configuration_values import check_value, is_number, is_size

AUTO_MAP = {
    "AutoConfig": "configuration_myna.MynaConfig",
    "AutoFeatureExtractor": "feature_extraction_myna.MynaFeatureExtractor",
    "AutoModel": "modeling_myna.MynaModel",
    "AutoModelForPreTraining": "modeling_myna.MynaForPreTraining",
    "AutoModelForAudioClassification": "modeling_myna.MynaForAudioClassification",
}
PIPELINE_FILES: dict[str, dict[str, Any]] = {
    "music-embedding": {
        "impl": "pipeline_music_embedding.MusicEmbeddingPipeline",
        "pt": ["AutoModel"],
        "type": "audio",
    }
}

_FEATURE = {
    "kind": "mel",
    "n_fft": 2048,
    "win_length": None,
    "hop_length": 512,
    "num_mel_bins": 128,
    "min_frequency_hz": 0.0,
    "mel_scale": "slaney",
    "mel_norm": "slaney",
    "pad_mode": "reflect",
    "compression": "db",
}

# What decides what is heard of a track.
FRONT_END_FIELDS = ("sampling_rate", "feature", "values", "decibel_factor", "top_db", "mean", "std", "min_frames")
# What differs from the defaults below in each front end, and in each size.
FRONT_ENDS: dict[str, dict[str, Any]] = {
    "default": {},
    # Raw power enters the first norm, without a logarithm, as the released weights have it.
    "myna": {"values": "power", "top_db": None, "mean": 0.0, "std": 1.0},
    # Power is taken for an amplitude there, so that decibels are doubled and the floor lies 40 dB below the maximum.
    "rpe-44k": {
        "sampling_rate": 44_100,
        "feature": {"win_length": 1102, "hop_length": 441, "pad_mode": "constant"},
        "decibel_factor": 2.0,
        "mean": 0.0,
        "std": 1.0,
    },
}
SIZES: dict[str, dict[str, int]] = {
    "tiny": {"hidden_size": 128, "num_hidden_layers": 4, "num_attention_heads": 4},
    "small": {"hidden_size": 384, "num_hidden_layers": 12, "num_attention_heads": 6},
    "base": {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12},
}
POSITIONS = ("alibi_2d", "alibi_1d", "rope_2d", "sincos_2d", "none")
_CHOICES: dict[str, tuple[str, ...]] = {
    "position_embedding": POSITIONS,
    "slopes": ("halving", "canonical", "learned"),
    "pooling": ("cls", "mean", "cls_mean"),
    "values": ("decibels", "power"),
    "long_input": ("patchout", "two_level"),
}
_COUNTS = ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "max_tokens")
_POSITIVE = ("decibel_factor", "std", "rope_base", "temperature")


class MynaConfig(TaggerConfig):
    """What a Myna encoder is made of, and what it hears.

    The defaults are ViT-S (21.4 million parameters) with 2-D ALiBi over 16 kHz, 31.25 frames a second: a patch of
    16 x 16 spans 16 mel bins and 0.51 s, and four minutes are 3744 tokens.

    Args:
        sampling_rate: Hz of the audio.
        input_samples: Length of a window for `MynaForAudioClassification` in samples; the encoder takes any length.
        feature: The mel spectrogram in decibels, see `configuration_features`; keys given here replace the default's,
            whose bins reach up to half the sampling rate.
        values: What a patch holds. "decibels": `(clip(decibel_factor * (dB - maximum of the track), -top_db, 0) - mean)
            / std`; "power": the power itself, as the released Myna weights expect.
        decibel_factor: See `values`; 2 in the front end "rpe-44k", which squares power.
        top_db: See `values`; `None`: nothing is clipped.
        mean: See `values`.
        std: See `values`, above 0.
        patch_sizes: `[bins, frames]` of a patch. Of several (a hybrid) each has its own patch embedding; they share the
            transformer, and the embeddings stand one after the other.
        hidden_size: Width of a token, a multiple of `num_attention_heads`.
        num_hidden_layers: Layers of the encoder.
        num_attention_heads: Heads of attention.
        intermediate_size: Width between the two linear layers of a layer; `None`: four times `hidden_size`.
        layer_norm_eps: Of every layer norm.
        use_cls_token: Whether a class token hears all others; it has no place, so that distances mean nothing to it.
        pooling: The embedding: "cls", the class token; "mean", of the tokens; "cls_mean", one after the other.
        position_embedding: "alibi_2d": scores fall with the distance in time plus that in frequency; "alibi_1d": with
            the distance in time, and a learned vector for each row; "rope_2d": half of each head's channels turn with
            time, half with frequency; "sincos_2d": absolute places, added (as Myna; no longer than it was trained on);
            "none".
        slopes: Of ALiBi, one per head: "halving" and "canonical", see `alibi_slopes`; "learned", from "halving" on.
        freq_scale: What one row counts for beside one column in "alibi_2d", at least 0.
        rope_base: Base of the turning rates of "rope_2d".
        patchout: Share of tokens that are left out in training, in [0, 1).
        projector_sizes: Widths behind the embedding for the contrastive loss, GELU in between; `MynaModel` has none.
        temperature: Of the contrastive loss.
        max_tokens: Most tokens at a time; longer tracks are heard by `long_input`.
        long_input: "patchout": a random selection of `max_tokens` tokens, `patchout_seeds` times, averaged;
            "two_level": equal stretches of at most `max_tokens`, averaged by their lengths.
        patchout_seeds: See `long_input`.
        tasks: Of `MynaForAudioClassification`, see `TaskConfig`, as are `thresholds`, `temperatures`, `focal_gamma` and
            `label_smoothing`.

    Raises:
        ValueError: A field is not well formed, or does not go with another; the message names it.

    Source: Yonay, Hammond and Yang, "Myna: masking-based contrastive learning of musical representations" (2025), and
    Phillips and Koh's version of it with relative positions (2026). Unlike the code of the latter, slopes are applied,
    time is time, and the sign is negative; its released weights cannot be told apart by that, so none are claimed to be
    reproduced.
    """

    model_type = "myna"
    code_files = AUTO_MAP
    pipeline_files = PIPELINE_FILES

    sampling_rate: int = 16_000
    input_samples: int = 480_000
    values: str = "decibels"
    decibel_factor: float = 1.0
    top_db: Any = 80.0
    mean: float = -40.0
    std: float = 40.0
    patch_sizes: Any = None
    hidden_size: int = 384
    num_hidden_layers: int = 12
    num_attention_heads: int = 6
    intermediate_size: Any = None
    layer_norm_eps: float = 1e-5
    use_cls_token: bool = True
    pooling: str = "cls"
    position_embedding: str = "alibi_2d"
    slopes: str = "halving"
    freq_scale: float = 1.0
    rope_base: float = 100.0
    patchout: float = 0.9
    projector_sizes: Any = None
    temperature: float = 0.1
    max_tokens: int = 8192
    long_input: str = "patchout"
    patchout_seeds: int = 4

    @staticmethod
    def front_end(name: str) -> dict[str, Any]:
        """The fields of a front end: "default", "myna" (raw power) or "rpe-44k" (44.1 kHz, 100 frames/s, doubled dB).

        Raises:
            ValueError: There is none of that name.
        """
        check_names([name], FRONT_ENDS, "front end")
        return copy.deepcopy(FRONT_ENDS[name])

    @staticmethod
    def size(name: str) -> dict[str, int]:
        """The fields of a size: "tiny" (4 layers of 128), "small" (ViT-S, 12 of 384) or "base" (ViT-B, 12 of 768).

        Raises:
            ValueError: There is none of that name.
        """
        check_names([name], SIZES, "size")
        return dict(SIZES[name])

    def __post_init__(self, **kwargs: Any) -> None:
        self.feature = myna_feature(self.sampling_rate, self.feature)
        self.patch_sizes = [[16, 16]] if self.patch_sizes is None else self.patch_sizes
        self.projector_sizes = [384, 128] if self.projector_sizes is None else self.projector_sizes
        if self.intermediate_size is None:
            self.intermediate_size = 4 * self.hidden_size
        super().__post_init__(**kwargs)

    def check(self) -> None:
        super().check()
        for name, allowed in _CHOICES.items():
            if getattr(self, name) not in allowed:
                raise ValueError(f"`{name}` is {getattr(self, name)!r}; allowed: {', '.join(map(repr, allowed))}.")
        for name in (*_COUNTS, "patchout_seeds"):
            check_value(name, getattr(self, name), 1, f"`{name}`")
        check_value("use_cls_token", self.use_cls_token, True, "`use_cls_token`")
        check_value("layer_norm_eps", self.layer_norm_eps, 1e-5, "`layer_norm_eps`")
        for name in _POSITIVE:
            if not (is_number(getattr(self, name)) and getattr(self, name) > 0):
                raise ValueError(f"`{name}` is {getattr(self, name)!r}; it must be a positive number.")
        if not (is_number(self.freq_scale) and self.freq_scale >= 0):
            raise ValueError(f"`freq_scale` is {self.freq_scale!r}; it must be a number of at least 0.")
        if not (is_number(self.patchout) and 0 <= self.patchout < 1):
            raise ValueError(f"`patchout` is {self.patchout!r}; it is the share left out in training, in [0, 1).")
        if self.pooling != "mean" and not self.use_cls_token:
            raise ValueError(
                f"`pooling` is {self.pooling!r} without a class token: set `use_cls_token`, or pool 'mean'."
            )
        sizes = self.projector_sizes
        if not isinstance(sizes, list | tuple) or not sizes or not all(map(is_size, sizes)):
            raise ValueError(
                f"`projector_sizes` is {sizes!r}; it must list positive whole numbers, such as [384, 128]."
            )
        check_front_end(self.top_db, self.mean, self.std)
        self._check_widths()
        check_patch_sizes(self.patch_sizes, self.num_mel_bins)
        unit = math.lcm(*(frames for _, frames in self.patch_sizes))
        least = self.most_tokens_in(unit)
        if self.max_tokens < least:
            raise ValueError(
                f"`max_tokens` is {self.max_tokens}; {unit} frames, the shortest stretch of whole patches, are {least}."
            )

    def _check_widths(self) -> None:
        if self.hidden_size % self.num_attention_heads:
            raise ValueError(
                f"`hidden_size` is {self.hidden_size} and `num_attention_heads` {self.num_attention_heads}: the first "
                "must be a multiple of the second."
            )
        per_head = self.hidden_size // self.num_attention_heads
        if self.position_embedding == "rope_2d" and per_head % 4:
            raise ValueError(
                f"`position_embedding` 'rope_2d' turns pairs of channels by time and by frequency, so a head's width "
                f"must be a multiple of 4; `hidden_size` / `num_attention_heads` is {per_head}."
            )
        if self.position_embedding == "sincos_2d" and (self.hidden_size % 4 or self.hidden_size < 8):
            raise ValueError(
                f"`position_embedding` 'sincos_2d' needs a `hidden_size` that is a multiple of 4 and at least 8, not "
                f"{self.hidden_size}."
            )

    @classmethod
    def parts(cls) -> dict[str, set[str]]:
        return {"feature": set(_FEATURE)}

    @property
    def num_mel_bins(self) -> int:
        """Bands of the spectrogram."""
        return self.feature["num_mel_bins"]

    @property
    def frames_per_second(self) -> float:
        """Frames of the spectrogram in a second."""
        return self.sampling_rate / self.feature["hop_length"]

    @property
    def tokens_per_second(self) -> float:
        """Tokens in a second; of a hybrid, of the patch size that has most."""
        return max(self.num_mel_bins // bins * self.frames_per_second / frames for bins, frames in self.patch_sizes)

    def most_tokens_in(self, num_frames: int) -> int:
        """Tokens in so many frames; of a hybrid, of the patch size that has most."""
        return max(self.num_mel_bins // bins * (num_frames // frames) for bins, frames in self.patch_sizes)

    @property
    def min_frames(self) -> int:
        """Frames of the widest patch: the shortest input."""
        return max(frames for _, frames in self.patch_sizes)

    @property
    def embedding_size(self) -> int:
        """Length of the embedding."""
        return self.hidden_size * len(self.patch_sizes) * (2 if self.pooling == "cls_mean" else 1)

    @property
    def accepts_any_length(self) -> bool:
        """True: from one patch on."""
        return True

    @property
    def min_samples(self) -> int:
        """One: the extractor fills what is shorter than a patch with its floor."""
        return 1

    @property
    def max_samples(self) -> int:
        """Samples of a window of `max_tokens` tokens."""
        return max(self.input_samples, int(self.max_tokens / self.tokens_per_second * self.sampling_rate))

    def front_end_settings(self) -> dict[str, Any]:
        """All that decides what the encoder hears of a track."""
        return {name: copy.deepcopy(getattr(self, name)) for name in FRONT_END_FIELDS}

    def extractor_settings(self) -> dict[str, Any]:
        """Arguments of the `MynaFeatureExtractor` that feeds this model."""
        return {**self.front_end_settings(), "window_samples": self.input_samples, "max_samples": self.max_samples}


def myna_feature(sampling_rate: Any, given: Mapping[str, Any] | None) -> dict[str, Any]:
    """A complete description of the spectrogram.

    Raises:
        ValueError: It is not well formed, or not in decibels.
    """
    check_value("sampling_rate", sampling_rate, 1, "`sampling_rate`")
    feature = filled_mel({**_FEATURE, "max_frequency_hz": sampling_rate / 2}, given)
    if feature["compression"] != "db":
        raise ValueError(
            f"`feature['compression']` is {feature['compression']!r}; Myna's spectrogram is in decibels, 'db'. What "
            "becomes of them is said by `values`, `decibel_factor`, `top_db`, `mean` and `std`."
        )
    check_below_half_the_rate(feature, sampling_rate)
    return fill_feature(feature)


def check_front_end(top_db: Any, mean: Any, std: Any) -> None:
    """Refuse constants that leave nothing of a spectrogram.

    Raises:
        ValueError: The message names the field.
    """
    if top_db is not None and not (is_number(top_db) and top_db > 0):
        raise ValueError(f"`top_db` is {top_db!r}; it must be a positive number, or None to clip nothing.")
    if not is_number(mean):
        raise ValueError(f"`mean` is {mean!r}; it must be a number.")
    if not (is_number(std) and std > 0):
        raise ValueError(f"`std` is {std!r}; it must be a positive number.")


def check_patch_sizes(patch_sizes: Any, num_mel_bins: int) -> None:
    """Refuse patches that do not tile the bands.

    Raises:
        ValueError: A size is no pair, does not divide the bands, or stands there twice.
    """
    if not isinstance(patch_sizes, list | tuple) or not patch_sizes:
        raise ValueError(f"`patch_sizes` is {patch_sizes!r}; it must list [bins, frames], such as [[16, 16]].")
    for size in patch_sizes:
        if not isinstance(size, list | tuple) or len(size) != 2 or not all(map(is_size, size)):
            raise ValueError(f"`patch_sizes` holds {size!r}; each entry is [bins, frames], such as [16, 16].")
        if num_mel_bins % size[0]:
            raise ValueError(
                f"`patch_sizes` holds {list(size)}: {size[0]} bins do not divide the {num_mel_bins} of the spectrogram."
            )
    if len({tuple(size) for size in patch_sizes}) < len(patch_sizes):
        raise ValueError(f"`patch_sizes` is {patch_sizes}; the sizes of a hybrid must differ.")
