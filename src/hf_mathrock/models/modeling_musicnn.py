# SPDX-License-Identifier: Apache-2.0
"""musicnn, and the vgg published beside it, as their TensorFlow graphs compute them."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn
from transformers import initialization as init

from .configuration_musicnn import MusicnnConfig
from .modeling_tagging import TaggerForAudioClassification, TaggerModel, TaggerPreTrainedModel
from .outputs import MusicTaggerModelOutput
from .tagger_features import mel_spectrogram

# Floats of a convolution's output that are reduced at once: as many as stay in the processor's cache.
_FLOATS_AT_ONCE = 2**21


class MusicnnPreTrainedModel(TaggerPreTrainedModel):
    """What the base model and the classifier share."""

    config_class = MusicnnConfig
    base_model_prefix = "musicnn"
    # Statistics need more digits than half precision has.
    _keep_in_fp32_modules_strict = [r"norm.*(weight|bias|running_mean|running_var)$"]

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, (nn.Linear, nn.Conv1d, nn.Conv2d)):
            init.xavier_uniform_(module.weight)
            if module.bias is not None:
                init.zeros_(module.bias)
        else:
            super()._init_weights(module)


def _norm_1d(config: MusicnnConfig, size: int) -> nn.BatchNorm1d:
    return nn.BatchNorm1d(size, eps=config.batch_norm_eps, momentum=config.batch_norm_momentum)


def _norm_2d(config: MusicnnConfig, size: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(size, eps=config.batch_norm_eps, momentum=config.batch_norm_momentum)


class MusicnnBranch(nn.Module):
    """One convolution over the whole spectrogram and, per frame, the best match of each filter at any height.

    Source: Pons et al., "End-to-end learning for music audio tagging at scale", ISMIR 2018. As everywhere in musicnn
    the normalisation follows the activation, and kernels of even length look one frame further ahead than back.
    """

    def __init__(self, config: MusicnnConfig, kernel: tuple[int, int], filters: int) -> None:
        super().__init__()
        frames = kernel[0]
        self.padding = (0, 0, (frames - 1) // 2, frames // 2)
        self.convolution = nn.Conv2d(1, filters, kernel)
        self.norm = _norm_2d(config, filters)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """`(batch_size, 1, num_frames, num_mel_bins)` to `(batch_size, filters, num_frames)`."""
        features = F.pad(features, self.padding)
        if self.norm.training or not self._is_plain():
            return self.norm(F.relu(self.convolution(features))).amax(dim=3)
        # With fixed statistics the norm is a straight line, and the maximum of what it gives is what it gives of the
        # maximum, or where it falls of the minimum. To have maxima only, falling filters are turned round first.
        sign = torch.where(self.norm.weight < 0, -1.0, 1.0).to(features.dtype)
        best = self._maxima(features, sign) * sign[:, None]
        return self.norm(F.relu(best).unsqueeze(-1)).squeeze(-1)

    def _is_plain(self) -> bool:
        """Whether nobody has put anything in the place of the convolution, or listens to it."""
        convolution = self.convolution
        return type(convolution) is nn.Conv2d and not (convolution._forward_hooks or convolution._forward_pre_hooks)

    def _convolve(self, features: torch.Tensor, sign: torch.Tensor) -> torch.Tensor:
        bias = self.convolution.bias
        assert bias is not None
        weight = self.convolution.weight * sign[:, None, None, None]
        # In this layout the convolution of one channel takes two thirds of the time.
        return F.conv2d(features, weight.contiguous(memory_format=torch.channels_last), bias * sign)

    def _maxima(self, features: torch.Tensor, sign: torch.Tensor) -> torch.Tensor:
        """The convolution's maxima over frequency; on the CPU a few frames at a time, which stay in the cache."""
        filters, _, *kernel = self.convolution.weight.shape
        num_frames = features.shape[2] - kernel[0] + 1
        at_once = num_frames
        if features.device.type == "cpu" and not torch.is_grad_enabled():
            per_frame = len(features) * filters * (features.shape[3] - kernel[1] + 1)
            at_once = max(1, _FLOATS_AT_ONCE // max(1, per_frame))
        return torch.cat(
            [
                self._convolve(features[:, :, first : first + at_once + kernel[0] - 1], sign).amax(dim=3)
                for first in range(0, num_frames, at_once)
            ],
            dim=2,
        )


class MusicnnTrunk(nn.Module):
    """Parallel branches, three densely connected convolutions over time, and pooling over all of it."""

    def __init__(self, config: MusicnnConfig) -> None:
        super().__init__()
        branches = [
            *(MusicnnBranch(config, tuple(kernel), config.timbral_filters) for kernel in config.timbral_kernels),
            *(MusicnnBranch(config, (frames, 1), config.temporal_filters) for frames in config.temporal_kernels),
        ]
        self.branches = nn.ModuleList(branches)
        front = sum(branch.convolution.out_channels for branch in branches)
        self.convolutions = nn.ModuleList(
            nn.Conv1d(size, config.width, 7, padding=3) for size in (front, config.width, config.width)
        )
        self.norms = nn.ModuleList(_norm_1d(config, config.width) for _ in self.convolutions)
        pooled = 2 * (front + len(self.convolutions) * config.width)
        self.pooled_norm = _norm_1d(config, pooled)
        self.dropout = nn.Dropout(config.dropout)
        self.dense = nn.Linear(pooled, config.dense_size)
        self.dense_norm = _norm_1d(config, config.dense_size)

    def forward(self, features: torch.Tensor) -> tuple[torch.Tensor, tuple[torch.Tensor, ...]]:
        """The embedding, and states `(batch_size, num_frames, channels)` of the front end and each convolution."""
        states = [torch.cat([branch(features) for branch in self.branches], dim=1)]
        for index, (convolution, norm) in enumerate(zip(self.convolutions, self.norms, strict=True)):
            state = norm(F.relu(convolution(states[-1])))
            states.append(state + states[-1] if index else state)
        dense = torch.cat(states, dim=1)
        # max, mean, max, mean: the two stand side by side for each channel.
        pooled = torch.stack([dense.amax(dim=2), dense.mean(dim=2)], dim=2).flatten(1)
        hidden = self.dense(self.dropout(self.pooled_norm(pooled)))
        return self.dense_norm(F.relu(hidden)), tuple(state.transpose(1, 2) for state in states)


class MusicnnVggTrunk(nn.Module):
    """Convolutions of 3 x 3, each followed by max pooling, down to a few values per filter."""

    def __init__(self, config: MusicnnConfig) -> None:
        super().__init__()
        sizes = [1] + [config.width] * len(config.pooling)
        self.convolutions = nn.ModuleList(
            nn.Conv2d(before, after, 3, padding=1) for before, after in zip(sizes[:-1], sizes[1:], strict=True)
        )
        self.norms = nn.ModuleList(_norm_2d(config, config.width) for _ in self.convolutions)
        self.pools = nn.ModuleList(
            nn.MaxPool2d(tuple(entry["kernel"]), tuple(entry["stride"])) for entry in config.pooling
        )
        self.dropout = nn.Dropout(config.stage_dropout)

    def forward(self, features: torch.Tensor) -> tuple[torch.Tensor, tuple[torch.Tensor, ...]]:
        """The embedding, and states `(batch_size, time, frequency, channels)` behind each pooling."""
        state = features.contiguous(memory_format=torch.channels_last)
        states: list[torch.Tensor] = []
        for convolution, norm, pool in zip(self.convolutions, self.norms, self.pools, strict=True):
            if states:
                state = self.dropout(state)
            state = pool(norm(F.relu(convolution(state))))
            states.append(state.permute(0, 2, 3, 1))
        return states[-1].flatten(1), tuple(states)


class MusicnnModel(MusicnnPreTrainedModel, TaggerModel):
    """musicnn without its classifier: three seconds of music to 200 numbers, or as vgg to 256.

    Source: the graphs published with musicnn (Pons and Serra, "musicnn: pre-trained convolutional neural networks for
    music audio tagging", 2019), not the training code beside it, whose residuals and pooling differ. Unlike there, mel
    power is not rounded to float16, which moves a probability by less than 4e-5 on music, and by up to 7e-4 on a pure
    tone. The re-make of musicnn in "Evaluation of CNN-based automatic music tagging models" (Won et al., 2020) is
    another network.

    The embedding is what the classifier sees: the normalised output of the dense layer, or the vgg's last pooling,
    flattened (time, frequency, channel).
    """

    def __init__(self, config: MusicnnConfig) -> None:
        super().__init__(config)
        self.feature_norm: nn.Module = nn.Identity()
        if config.feature_batch_norm:
            self.feature_norm = _norm_2d(config, 1)
        self.trunk = MusicnnTrunk(config) if config.variant == "musicnn" else MusicnnVggTrunk(config)
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
            input_values: `(batch_size, num_samples)` at the config's rate, or `None`. It has `num_samples //
                hop_length` frames: the one centred on its end is the first of what follows.
            input_features: Instead: log-mels `(batch_size, num_frames, num_mel_bins)`, compressed as the config says.
            output_hidden_states: Also return the states on the way. "musicnn": the front end's (by default 561
                channels: timbral branches, then temporal ones) and those behind each of the three convolutions, each
                `(batch_size, num_frames, channels)`. "vgg": behind each pooling, `(batch_size, time, frequency,
                channels)`.
            output_attentions: There are none.

        Raises:
            ValueError: There is less than a frame, the bands are too few or too many, or a vgg gets another length
                than it was made for.
        """
        if input_features is None:
            assert input_values is not None
            input_features = self._spectrogram(input_values)
        bands = self.config.feature["num_mel_bins"]
        if input_features.dim() != 3 or input_features.shape[2] != bands or input_features.shape[1] == 0:
            raise ValueError(
                f"`input_features` has shape {tuple(input_features.shape)}; expected (batch_size, num_frames, {bands})."
            )
        if not self.config.accepts_any_length and input_features.shape[1] != self.config.num_frames:
            raise ValueError(
                f"This vgg hears exactly {self.config.num_frames} frames ({self.config.window_seconds:.3f} s, "
                f"{self.config.input_samples} samples), and was given {input_features.shape[1]}. The feature extractor "
                "cuts and repeats audio to that length."
            )
        features = input_features.unsqueeze(1)
        if isinstance(self.feature_norm, nn.BatchNorm2d):
            features = self.feature_norm(features.to(self.feature_norm.weight.dtype))
        dtype = next(weight.dtype for weight in self.trunk.parameters() if weight.dim() == 4)
        embeddings, states = self.trunk(features.to(dtype))
        return MusicTaggerModelOutput(embeddings=embeddings, hidden_states=states if output_hidden_states else None)

    def _spectrogram(self, waveform: torch.Tensor) -> torch.Tensor:
        """Log-mels of a waveform, `(batch_size, num_frames, num_mel_bins)`."""
        feature = self.config.feature
        least = feature["n_fft"] // 2 + 1
        if waveform.dim() != 2 or waveform.shape[1] < max(least, feature["hop_length"]):
            raise ValueError(
                f"`input_values` has shape {tuple(waveform.shape)}; expected (batch_size, num_samples) with at least "
                f"{max(least, feature['hop_length'])} samples at {self.config.sampling_rate} Hz."
            )
        mel = mel_spectrogram(waveform, feature, self.config.sampling_rate)
        return mel[:, :, : waveform.shape[1] // feature["hop_length"]].transpose(1, 2)


class MusicnnForAudioClassification(MusicnnPreTrainedModel, TaggerForAudioClassification):
    """musicnn with the linear layer that gives each tag its logit."""

    def __init__(self, config: MusicnnConfig) -> None:
        super().__init__(config)
        self.musicnn = MusicnnModel(config)
        self.dropout = nn.Dropout(config.dropout)
        self.classifier = nn.Linear(config.embedding_size, config.num_outputs)
        self.post_init()

    def classify(self, embeddings: torch.Tensor) -> torch.Tensor:
        return self.classifier(self.dropout(embeddings))
