# SPDX-License-Identifier: Apache-2.0
"""The MathRock model: WavLM hears the waveform, CLAP the spectrogram, and small heads say what they heard."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel
from transformers import initialization as init
from transformers.models.clap.modeling_clap import ClapAudioModel, ClapModel

from .configuration_mathrock import MathRockConfig
from .modeling_wavlm_sdpa import SdpaWavLMModel
from .objectives import losses_of_forward
from .outputs import MathRockClassifierOutput, MathRockModelOutput
from .pooling import masked_mean, mean_over_windows

if TYPE_CHECKING:
    # Saving a model copies the files its module names: with these two lines the extractor and the pipeline come along,
    # so that the folder serves `pipeline(...)` too.
    from .feature_extraction_mathrock import MathRockFeatureExtractor  # noqa: F401
    from .pipeline_mathrock_affect import MathRockAffectPipeline  # noqa: F401


class MathRockPreTrainedModel(PreTrainedModel):
    """What the base model and the classifier share."""

    config_class = MathRockConfig
    base_model_prefix = "mathrock"
    main_input_name = "input_values"
    input_modalities = ("audio",)
    supports_gradient_checkpointing = True

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        # The backbones initialise themselves; what remains are linear layers and a LayerNorm.
        if isinstance(module, nn.Linear):
            init.xavier_uniform_(module.weight)
            init.zeros_(module.bias)
        else:
            super()._init_weights(module)


class MathRockModel(MathRockPreTrainedModel):
    """Two backbones and their fusion: 10 s of audio to one embedding.

    Source: "Neural Math Rock: dual-backbone acoustic and affective analysis". Its code is followed where its drawing
    differs; unlike it, padded WavLM frames do not count in the mean.
    """

    _auto_class = "AutoModel"

    def __init__(self, config: MathRockConfig) -> None:
        super().__init__(config)
        if config.clap_audio_config.enable_fusion:
            raise ValueError(
                "`clap_audio_config.enable_fusion` is true: MathRock feeds one mel window at a time and needs an "
                "unfused CLAP tower, such as laion/clap-htsat-unfused."
            )
        self.wavlm = SdpaWavLMModel(config.wavlm_config)
        self.clap_audio = ClapAudioModel(config.clap_audio_config)
        clap_size = self.clap_audio.audio_encoder.num_features
        self.wavlm_projection = nn.Linear(config.wavlm_config.hidden_size, config.projection_size)
        self.clap_audio_projection = nn.Linear(clap_size, config.projection_size)
        self.activation = nn.GELU()
        self.fusion = nn.Sequential(
            nn.Linear(2 * config.projection_size, config.hidden_size),
            nn.LayerNorm(config.hidden_size),
            nn.Tanh(),
            nn.Dropout(config.fusion_dropout),
        )
        self.post_init()

    def forward(
        self,
        input_values: torch.Tensor | None = None,
        input_features: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        windows_per_clip: torch.Tensor | None = None,
        wavlm_embeddings: torch.Tensor | None = None,
        clap_audio_embeddings: torch.Tensor | None = None,
        output_hidden_states: bool = False,
        return_dict: bool | None = None,
    ) -> MathRockModelOutput | tuple[torch.Tensor, ...]:
        """Embed windows of audio, or whole clips of several windows.

        Args:
            input_values: `(batch_size, num_samples)` at 16 kHz.
            input_features: CLAP log-mel at 48 kHz, `(batch_size, 1, num_frames, num_mel_bins)`, up to 1024 frames.
            attention_mask: `(batch_size, num_samples)`, 1 for sound, 0 for padding at the end.
            windows_per_clip: `(num_clips,)`: how many consecutive windows belong to each clip; their embeddings are
                averaged. `None`: every window is a clip, `num_clips = batch_size`.
            wavlm_embeddings: Instead of the two inputs, with `clap_audio_embeddings`: what `embed_backbones` gave.
            clap_audio_embeddings: See `wavlm_embeddings`.
            output_hidden_states: Also return the backbones' states, per window.
            return_dict: `False` for a plain tuple.

        Returns:
            See `MathRockModelOutput`.
        """
        hidden_states = clap_hidden_states = None
        if wavlm_embeddings is None or clap_audio_embeddings is None:
            if input_values is None or input_features is None:
                raise ValueError(
                    "Pass `input_values` and `input_features`, as the feature extractor gives them, or both "
                    "`wavlm_embeddings` and `clap_audio_embeddings`, as `embed_backbones` gives them."
                )
            wavlm_embeddings, clap_audio_embeddings, hidden_states, clap_hidden_states = self._through_backbones(
                input_values, input_features, attention_mask, output_hidden_states
            )
        output = MathRockModelOutput(
            embeddings=mean_over_windows(self.fuse(wavlm_embeddings, clap_audio_embeddings), windows_per_clip),
            wavlm_embeddings=mean_over_windows(wavlm_embeddings, windows_per_clip),
            clap_audio_embeddings=mean_over_windows(clap_audio_embeddings, windows_per_clip),
            hidden_states=hidden_states,
            clap_audio_hidden_states=clap_hidden_states,
        )
        return output if self._wants_dict(return_dict) else output.to_tuple()

    def embed_backbones(
        self, input_values: torch.Tensor, input_features: torch.Tensor, attention_mask: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """What each backbone makes of each window, the inputs of `fuse`.

        Args:
            input_values: As for `forward`.
            input_features: As for `forward`.
            attention_mask: As for `forward`.

        Returns:
            Mean of the valid WavLM frames `(batch_size, wavlm_hidden_size)`, and the CLAP tower's pooled output
            `(batch_size, clap_audio_hidden_size)`.
        """
        return self._through_backbones(input_values, input_features, attention_mask, False)[:2]

    def fuse(self, wavlm_embeddings: torch.Tensor, clap_audio_embeddings: torch.Tensor) -> torch.Tensor:
        """The fused embedding of each window, `(batch_size, hidden_size)` in (-1, 1)."""
        streams = (
            self.activation(self.wavlm_projection(wavlm_embeddings)),
            self.activation(self.clap_audio_projection(clap_audio_embeddings)),
        )
        return self.fusion(torch.cat(streams, dim=-1))

    def _through_backbones(
        self,
        input_values: torch.Tensor,
        input_features: torch.Tensor,
        attention_mask: torch.Tensor | None,
        output_hidden_states: bool,
    ) -> tuple[torch.Tensor, torch.Tensor, Any, Any]:
        """Both embeddings, and both backbones' states where they are wanted."""
        clap = self.clap_audio(input_features, output_hidden_states=output_hidden_states)
        num_rows = len(input_values) if output_hidden_states else self._rows_at_once(input_values)
        masks = [None] * len(input_values) if attention_mask is None else attention_mask.split(num_rows)
        means, hidden_states = [], None
        for values, mask in zip(input_values.split(num_rows), masks, strict=False):
            frames = self.wavlm(values, attention_mask=mask, output_hidden_states=output_hidden_states)
            means.append(masked_mean(frames.last_hidden_state, frames.frame_mask))
            hidden_states = frames.hidden_states
        return torch.cat(means), clap.pooler_output, hidden_states, clap.hidden_states

    def _rows_at_once(self, input_values: torch.Tensor) -> int:
        """Rows of a batch that go through WavLM together.

        On the CPU, without gradients, as many as leave the widest states of a layer 16 MB: beyond that the base model's
        matrix products are slower, and a batch gains nothing.
        """
        if input_values.device.type != "cpu" or torch.is_grad_enabled():
            return max(1, len(input_values))
        num_frames = int(self.wavlm._get_feat_extract_output_lengths(input_values.shape[1], add_adapter=False))
        return max(1, 2**22 // (max(1, num_frames) * self.config.wavlm_config.intermediate_size))

    def _wants_dict(self, return_dict: bool | None) -> bool:
        return self.config.return_dict if return_dict is None else return_dict


def _public_name(source: str | os.PathLike[str]) -> str:
    """A Hub name as it is; of a folder its own name, since configs are published and paths are private."""
    path = os.fspath(source)
    return os.path.basename(os.path.abspath(path)) if os.path.isdir(path) else path


def _load_backbone(source: str | os.PathLike[str], classes: Mapping[str, type[PreTrainedModel]]) -> PreTrainedModel:
    """A pretrained backbone; `classes` says which class reads which model type."""
    model_type = PreTrainedConfig.get_config_dict(source)[0].get("model_type")
    if model_type not in classes:
        raise ValueError(
            f"{os.fspath(source)} is a {model_type!r} checkpoint; expected one of type "
            f"{' or '.join(map(repr, classes))}."
        )
    model, info = classes[model_type].from_pretrained(source, output_loading_info=True)
    if missing := sorted(info["missing_keys"]):
        raise RuntimeError(f"{os.fspath(source)} lacks {len(missing)} weights, such as {missing[0]}: it is incomplete.")
    return model


def _head(task: Mapping[str, Any], hidden_size: int) -> nn.Module:
    """One task's head: linear, or with a hidden layer where the task asks for it."""
    num_labels = len(task["labels"])
    if task["head_hidden"] is None:
        return nn.Sequential(nn.Dropout(task["head_dropout"]), nn.Linear(hidden_size, num_labels))
    return nn.Sequential(
        nn.Linear(hidden_size, task["head_hidden"]),
        nn.GELU(),
        nn.Dropout(task["head_dropout"]),
        nn.Linear(task["head_hidden"], num_labels),
    )


class MathRockForAudioClassification(MathRockPreTrainedModel):
    """MathRock with one head per task of its config."""

    _auto_class = "AutoModelForAudioClassification"

    def __init__(self, config: MathRockConfig) -> None:
        super().__init__(config)
        self.mathrock = MathRockModel(config)
        if unusable := [name for name in config.task_names if hasattr(nn.ModuleDict, name)]:
            raise ValueError(f"{unusable} cannot name tasks: torch's modules have attributes of that name.")
        self.heads = nn.ModuleDict({task["name"]: _head(task, config.hidden_size) for task in config.tasks})
        self.post_init()

    @classmethod
    def from_backbones(
        cls,
        wavlm: str | os.PathLike[str] = "microsoft/wavlm-base",
        clap: str | os.PathLike[str] = "laion/clap-htsat-unfused",
        **kwargs: Any,
    ) -> MathRockForAudioClassification:
        """Start a model from two pretrained backbones, with fresh projections, fusion and heads.

        Args:
            wavlm: Hub name or folder of a WavLM checkpoint.
            clap: Hub name or folder of a CLAP checkpoint (the whole model or its audio tower).
            **kwargs: Fields of `MathRockConfig`, such as `tasks`.

        Returns:
            The model in evaluation mode; its config remembers both names, and loading it again needs neither.

        Raises:
            ValueError: A checkpoint is of another model type.
            RuntimeError: A checkpoint lacks weights that the backbone needs.
        """
        streams = {
            "wavlm": _load_backbone(wavlm, {"wavlm": SdpaWavLMModel}),
            # `ClapAudioModel` does not find its weights in a whole CLAP, and would start from random ones.
            "clap_audio": _load_backbone(clap, {"clap": ClapModel, "clap_audio_model": ClapAudioModel}),
        }
        if isinstance(streams["clap_audio"], ClapModel):
            streams["clap_audio"] = streams["clap_audio"].audio_model
        config = MathRockConfig(
            wavlm_config=streams["wavlm"].config.to_dict(),
            clap_audio_config=streams["clap_audio"].config.to_dict(),
            backbones={"wavlm": _public_name(wavlm), "clap_audio": _public_name(clap)},
            **kwargs,
        )
        model = cls(config)
        for key, stream in streams.items():
            getattr(model.mathrock, key).load_state_dict(stream.state_dict())
        return model.eval()

    def forward(
        self,
        input_values: torch.Tensor | None = None,
        input_features: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        windows_per_clip: torch.Tensor | None = None,
        labels: Mapping[str, torch.Tensor] | torch.Tensor | None = None,
        wavlm_embeddings: torch.Tensor | None = None,
        clap_audio_embeddings: torch.Tensor | None = None,
        output_hidden_states: bool = False,
        return_dict: bool | None = None,
    ) -> MathRockClassifierOutput | tuple[Any, ...]:
        """Classify windows of audio, or whole clips of several windows.

        Args:
            input_values: As for `MathRockModel`.
            input_features: As for `MathRockModel`.
            attention_mask: As for `MathRockModel`.
            windows_per_clip: As for `MathRockModel`; the heads see the mean embedding of each clip.
            labels: Per task, multi-hot `(num_clips, num_labels)` or class indices `(num_clips,)`, -100 where unknown;
                a bare tensor holds the first task's.
            wavlm_embeddings: As for `MathRockModel`.
            clap_audio_embeddings: As for `MathRockModel`.
            output_hidden_states: As for `MathRockModel`.
            return_dict: `False` for a plain tuple.

        Returns:
            See `MathRockClassifierOutput`.
        """
        base = self.mathrock(
            input_values,
            input_features,
            attention_mask=attention_mask,
            windows_per_clip=windows_per_clip,
            wavlm_embeddings=wavlm_embeddings,
            clap_audio_embeddings=clap_audio_embeddings,
            output_hidden_states=output_hidden_states,
            return_dict=True,
        )
        task_logits = {name: head(base.embeddings) for name, head in self.heads.items()}
        loss, task_losses = losses_of_forward(task_logits, labels, self.config)
        output = MathRockClassifierOutput(
            loss=loss,
            logits=task_logits[self.config.task_names[0]],
            task_logits=task_logits,
            task_losses=task_losses,
            **base,
        )
        return output if self.mathrock._wants_dict(return_dict) else output.to_tuple()
