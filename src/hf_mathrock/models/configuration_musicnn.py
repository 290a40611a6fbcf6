# SPDX-License-Identifier: Apache-2.0
"""Configuration of musicnn and of the vgg that was published beside it."""

from __future__ import annotations

from typing import Any

from .configuration_features import filled_mel
from .configuration_tagging import LONGEST_SECONDS, NormalisedTaggerConfig
from .configuration_values import check_value, is_number, is_size

AUTO_MAP = {
    "AutoConfig": "configuration_musicnn.MusicnnConfig",
    "AutoFeatureExtractor": "feature_extraction_music_tagging.MusicTaggingFeatureExtractor",
    "AutoModel": "modeling_musicnn.MusicnnModel",
    "AutoModelForAudioClassification": "modeling_musicnn.MusicnnForAudioClassification",
}
VARIANTS = ("musicnn", "vgg")
FEATURE: dict[str, Any] = {
    "kind": "mel",
    "n_fft": 512,
    "hop_length": 256,
    "num_mel_bins": 96,
    "min_frequency_hz": 0.0,
    "max_frequency_hz": 8000.0,
    "mel_scale": "slaney",
    "mel_norm": "slaney",
    "pad_mode": "reflect",
    "compression": "log10",
    "scale": 10_000.0,
}
# Max pooling behind each convolution of the vgg, each size (time, frequency). The released code applies MTT's to both.
POOLING: dict[str, list[dict[str, list[int]]]] = {
    "MTT": [
        {"kernel": [4, 1], "stride": [2, 2]},
        *({"kernel": [2, 2], "stride": [2, 2]} for _ in range(3)),
        {"kernel": [4, 4], "stride": [4, 4]},
    ],
    "MSD": [
        {"kernel": [4, 1], "stride": [4, 1]},
        {"kernel": [1, 4], "stride": [1, 4]},
        *({"kernel": [2, 2], "stride": [2, 2]} for _ in range(2)),
        {"kernel": [4, 4], "stride": [4, 4]},
    ],
}


class MusicnnConfig(NormalisedTaggerConfig):
    """What a musicnn is made of.

    Fields of the other variant are kept and have no effect.

    Args:
        variant: "musicnn": filters as wide as a timbre or as long as a rhythm side by side, then a dense middle and
            pooling over time, for any length. "vgg": five 3 x 3 convolutions, for `input_samples` only.
        timbral_kernels: `[frames, bands]` of each timbral branch; default 7 frames by 40 % and by 70 % of the bands.
        timbral_filters: Filters of each timbral branch.
        temporal_kernels: Frames of each temporal branch, one band wide.
        temporal_filters: Filters of each temporal branch.
        width: Filters of each further convolution; default 64, as vgg 128. The big published model has 512.
        dense_size: Size of the embedding of variant "musicnn"; the big published model has 500.
        pooling: Of the vgg: `{"kernel", "stride"}`, each `[time, frequency]`, of the max pooling behind each of its
            convolutions; there are as many convolutions as entries. "MTT" (default) and "MSD" name those that the
            published models were trained with.
        stage_dropout: Of the vgg, behind each pooling but the last, in [0, 1).
        dropout: Before each linear layer, in [0, 1).
        batch_norm_momentum: Share of a batch in the running statistics.

    Raises:
        ValueError: A field is not well formed, or the pooling leaves nothing of the spectrogram; the message names it.
    """

    model_type = "musicnn"
    code_files = AUTO_MAP

    input_samples: int = 47_872
    batch_norm_eps: float = 1e-3
    variant: str = "musicnn"
    timbral_kernels: Any = None
    timbral_filters: int = 204
    temporal_kernels: Any = None
    temporal_filters: int = 51
    width: Any = None
    dense_size: int = 200
    pooling: Any = None
    stage_dropout: float = 0.25
    dropout: float = 0.5
    batch_norm_momentum: float = 0.01

    def __post_init__(self, **kwargs: Any) -> None:
        if self.variant not in VARIANTS:
            raise ValueError(f"`variant` is {self.variant!r}; allowed: {', '.join(map(repr, VARIANTS))}.")
        self.feature = filled_mel(FEATURE, self.feature)
        bands = self.feature["num_mel_bins"]
        if self.timbral_kernels is None:
            self.timbral_kernels = [[7, int(0.4 * bands)], [7, int(0.7 * bands)]]
        if self.temporal_kernels is None:
            self.temporal_kernels = [128, 64, 32]
        if self.width is None:
            self.width = 128 if self.variant == "vgg" else 64
        if not isinstance(self.pooling, list):
            if self.pooling is not None and (not isinstance(self.pooling, str) or self.pooling not in POOLING):
                raise ValueError(f"`pooling` is {self.pooling!r}; allowed: a list, or one of {', '.join(POOLING)}.")
            self.pooling = [
                {key: list(size) for key, size in entry.items()} for entry in POOLING[self.pooling or "MTT"]
            ]
        super().__post_init__(**kwargs)

    def check(self) -> None:
        super().check()
        self.feature = filled_mel(self.feature)
        if self.variant not in VARIANTS:
            raise ValueError(f"`variant` is {self.variant!r}; allowed: {', '.join(map(repr, VARIANTS))}.")
        for name in ("timbral_filters", "temporal_filters", "width", "dense_size"):
            check_value(name, getattr(self, name), 1, f"`{name}`")
        for name in ("stage_dropout", "dropout"):
            check_value(name, getattr(self, name), 0.5, f"`{name}`")
        if not (is_number(self.batch_norm_momentum) and 0 < self.batch_norm_momentum <= 1):
            raise ValueError(f"`batch_norm_momentum` is {self.batch_norm_momentum!r}; it must be in (0, 1].")
        if self.variant == "musicnn":
            self._check_kernels(self.feature["num_mel_bins"])
        else:
            self._pooled_sizes()

    def _check_kernels(self, bands: int) -> None:
        for name in ("timbral_kernels", "temporal_kernels"):
            if not isinstance(getattr(self, name), list | tuple):
                raise ValueError(f"`{name}` is {getattr(self, name)!r}; it must be a list.")
        kernels = [*self.timbral_kernels, *([frames, 1] for frames in self.temporal_kernels)]
        if not kernels:
            raise ValueError("`timbral_kernels` and `temporal_kernels` are both empty: there is nothing to hear with.")
        for kernel in kernels:
            if not _is_pair(kernel) or kernel[1] > bands:
                raise ValueError(
                    f"`timbral_kernels` or `temporal_kernels` asks for the kernel {kernel}; it needs positive whole "
                    f"numbers of frames and bands, and no more than the {bands} bands of `feature`."
                )

    def _pooled_sizes(self) -> list[tuple[int, int]]:
        """`(time, frequency)` behind each pooling of the vgg."""
        size = (self.num_frames, self.feature["num_mel_bins"])
        sizes = []
        for index, entry in enumerate(self.pooling):
            if not isinstance(entry, dict) or entry.keys() != {"kernel", "stride"}:
                raise ValueError(f"`pooling[{index}]` is {entry!r}; it needs `kernel` and `stride`, nothing else.")
            kernel, stride = entry["kernel"], entry["stride"]
            if not _is_pair(kernel) or not _is_pair(stride):
                raise ValueError(f"`pooling[{index}]` is {entry}; each needs two positive whole numbers.")
            if kernel[0] > size[0] or kernel[1] > size[1]:
                raise ValueError(
                    f"`pooling[{index}]` pools {kernel} of what is left of the spectrogram, {list(size)} (time, "
                    "frequency): use smaller strides before it, more `input_samples`, or fewer entries."
                )
            size = ((size[0] - kernel[0]) // stride[0] + 1, (size[1] - kernel[1]) // stride[1] + 1)
            sizes.append(size)
        if not sizes:
            raise ValueError("`pooling` is empty: the vgg has a convolution for each of its entries.")
        return sizes

    @property
    def num_frames(self) -> int:
        """Frames of `input_samples`: the one centred on their end is the first of what follows."""
        return self.input_samples // self.feature["hop_length"]

    @property
    def embedding_size(self) -> int:
        """Size of what the classifier sees."""
        if self.variant == "musicnn":
            return self.dense_size
        time, frequency = self._pooled_sizes()[-1]
        return time * frequency * self.width

    @property
    def accepts_any_length(self) -> bool:
        return self.variant == "musicnn"

    @property
    def max_samples(self) -> int | None:
        return LONGEST_SECONDS * self.sampling_rate if self.accepts_any_length else None

    def extractor_settings(self) -> dict[str, Any]:
        # As musicnn does: patches of one spectrogram of the whole recording, without the rest behind the last. The
        # repetition of clips shorter than a patch, which its training configuration names, it left undone.
        return {**super().extractor_settings(), "feature": dict(self.feature), "drop_tail": True}


def _is_pair(value: Any) -> bool:
    return isinstance(value, (list, tuple)) and len(value) == 2 and all(map(is_size, value))
