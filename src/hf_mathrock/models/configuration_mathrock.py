# SPDX-License-Identifier: Apache-2.0
"""Configuration of the MathRock family: two backbones and a declarative list of tasks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from transformers.models.clap.configuration_clap import ClapAudioConfig
from transformers.models.wavlm.configuration_wavlm import WavLMConfig

from .configuration_tasks import TaskConfig

# fmt: off
EMOTIONS = [
    "admiration", "amusement", "anger", "annoyance", "approval", "caring", "confusion", "curiosity", "desire",
    "disappointment", "disapproval", "disgust", "embarrassment", "excitement", "fear", "gratitude", "grief", "joy",
    "love", "nervousness", "optimism", "pride", "realization", "relief", "remorse", "sadness", "surprise", "neutral",
]
# fmt: on
VIBES = ["aggressive", "atmospheric", "melancholic", "technical"]
INTENSITIES = ["low", "medium", "high"]
TEMPI = ["slow", "moderate", "fast"]

DEFAULT_TASKS: list[dict[str, Any]] = [
    {"name": "emotion", "type": "multi_label", "labels": EMOTIONS, "head_hidden": 256, "head_dropout": 0.2},
    {"name": "vibe", "type": "single_label", "labels": VIBES, "head_hidden": None, "head_dropout": 0.0},
    {"name": "intensity", "type": "single_label", "labels": INTENSITIES, "head_hidden": None, "head_dropout": 0.0},
    {"name": "tempo", "type": "single_label", "labels": TEMPI, "head_hidden": None, "head_dropout": 0.0},
]

# Where the travelling code stands: written into every config, so that any save can be loaded by any Auto class.
AUTO_MAP = {
    "AutoConfig": "configuration_mathrock.MathRockConfig",
    "AutoFeatureExtractor": "feature_extraction_mathrock.MathRockFeatureExtractor",
    "AutoModel": "modeling_mathrock.MathRockModel",
    "AutoModelForAudioClassification": "modeling_mathrock.MathRockForAudioClassification",
}
# One only: of two, transformers could not tell which a `pipeline(model=...)` without a task means. With the package
# installed "music-tagging" takes these checkpoints too.
CUSTOM_PIPELINES = {
    "mathrock-affect": {
        "impl": "pipeline_mathrock_affect.MathRockAffectPipeline",
        "pt": ["AutoModelForAudioClassification"],
        "type": "audio",
    }
}


class MathRockConfig(TaskConfig):
    """What a MathRock model is made of.

    Args:
        wavlm_config: WavLM backbone (raw 16 kHz waveform); default `microsoft/wavlm-base`'s sizes.
        clap_audio_config: CLAP audio tower (48 kHz log-mel); default `laion/clap-htsat-unfused`'s sizes.
        tasks: Ordered list of `{"name", "type": "multi_label" | "single_label", "labels", "head_hidden": int | None,
            "head_dropout"}`. Default: the reference's emotion (28, multi-label), vibe (4), intensity (3), tempo (3).
            `id2label`, `label2id` and `problem_type` always describe the first task, so that the stock
            `audio-classification` pipeline and the Hub's widget work.
        projection_size: Width of each stream after its projection.
        hidden_size: Width of the fused embedding.
        fusion_dropout: Dropout after the fusion, in [0, 1).
        focal_gamma: Exponent of the focal factor of multi-label tasks, >= 0 (0: plain cross-entropy).
        label_smoothing: Smoothing of multi-label targets, in [0, 1).
        thresholds: Per multi-label task, one score in [0, 1] per label from which on it counts as active; tasks not
            named use 0.5.
        temperatures: Per task, a positive number the logits are divided by before the sigmoid or softmax; tasks not
            named use 1.
        backbones: The Hub names the two backbones came from, for the record; never downloaded again.

    Raises:
        ValueError: A task, threshold or temperature is not well formed; the message names it.
    """

    model_type = "mathrock"
    code_files = AUTO_MAP
    pipeline_files = CUSTOM_PIPELINES
    sub_configs_defaults = {"wavlm_config": WavLMConfig, "clap_audio_config": ClapAudioConfig}
    # Kept out of `Trainer` predictions: large, and not scores.
    keys_to_ignore_at_inference = [
        "embeddings",
        "wavlm_embeddings",
        "clap_audio_embeddings",
        "hidden_states",
        "clap_audio_hidden_states",
        "task_losses",
    ]

    wavlm_config: Any = None
    clap_audio_config: Any = None
    projection_size: int = 512
    hidden_size: int = 512
    fusion_dropout: float = 0.3
    focal_gamma: float = 2.0
    label_smoothing: float = 0.1
    backbones: dict | None = None

    @classmethod
    def default_tasks(cls, words: Mapping[str, Any]) -> list[dict[str, Any]]:
        return DEFAULT_TASKS
