# SPDX-License-Identifier: Apache-2.0
"""hf-mathrock: hears what music feels like and how it is built, inside the Hugging Face audio stack.

    >>> from hf_mathrock import pipeline
    >>> pipe = pipeline("mathrock-affect")  # doctest: +SKIP
    >>> pipe("song.mp3")["vibe"][0]["label"]  # doctest: +SKIP
    'technical'

Importing the package registers its families and tasks with transformers, without importing transformers.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from hf_mathrock.registry import register, register_now
from hf_mathrock.version import __version__

# Public names and the modules they are fetched from on first use.
_EXPORTS = {
    "MathRockConfig": "hf_mathrock.models.configuration_mathrock",
    "MathRockFeatureExtractor": "hf_mathrock.models.feature_extraction_mathrock",
    "MathRockForAudioClassification": "hf_mathrock.models.modeling_mathrock",
    "MathRockModel": "hf_mathrock.models.modeling_mathrock",
    "MathRockAffectPipeline": "hf_mathrock.models.pipeline_mathrock_affect",
    "MusicTaggerConfig": "hf_mathrock.models.configuration_music_tagger",
    "MusicTaggerModel": "hf_mathrock.models.modeling_music_tagger",
    "MusicTaggerForAudioClassification": "hf_mathrock.models.modeling_music_tagger",
    "MusicnnConfig": "hf_mathrock.models.configuration_musicnn",
    "MusicnnModel": "hf_mathrock.models.modeling_musicnn",
    "MusicnnForAudioClassification": "hf_mathrock.models.modeling_musicnn",
    "MusicTaggingTransformerConfig": "hf_mathrock.models.configuration_music_tagging_transformer",
    "MusicTaggingTransformerModel": "hf_mathrock.models.modeling_music_tagging_transformer",
    "MusicTaggingTransformerForAudioClassification": "hf_mathrock.models.modeling_music_tagging_transformer",
    "MusicTaggingFeatureExtractor": "hf_mathrock.models.feature_extraction_music_tagging",
    "MusicTaggingPipeline": "hf_mathrock.models.pipeline_music_tagging",
    "MusicEmbeddingPipeline": "hf_mathrock.models.pipeline_music_embedding",
    "MynaConfig": "hf_mathrock.models.configuration_myna",
    "MynaFeatureExtractor": "hf_mathrock.models.feature_extraction_myna",
    "MynaForAudioClassification": "hf_mathrock.models.modeling_myna",
    "MynaForPreTraining": "hf_mathrock.models.modeling_myna",
    "MynaModel": "hf_mathrock.models.modeling_myna",
    "MathRockCollator": "hf_mathrock.data.collator",
    "MathRockTrainer": "hf_mathrock.training.trainer",
    "MathRockTrainingArguments": "hf_mathrock.training.arguments",
    "MynaTrainer": "hf_mathrock.training.myna_trainer",
    "MynaTrainingArguments": "hf_mathrock.training.myna_arguments",
    "PlaylistHull": "hf_mathrock.playlists.hull",
    "AudioReadError": "hf_mathrock.models.audio_input",
    "open_audio": "hf_mathrock.models.audio_input",
    "load_labelled_audio": "hf_mathrock.data.loading",
    "embedded_checkpoint": "hf_mathrock.zoo",
    "pipeline": "transformers",
}

__all__ = [
    "AudioReadError",
    "MathRockAffectPipeline",
    "MathRockCollator",
    "MathRockConfig",
    "MathRockFeatureExtractor",
    "MathRockForAudioClassification",
    "MathRockModel",
    "MathRockTrainer",
    "MathRockTrainingArguments",
    "MusicEmbeddingPipeline",
    "MusicTaggerConfig",
    "MusicTaggerForAudioClassification",
    "MusicTaggerModel",
    "MusicTaggingFeatureExtractor",
    "MusicTaggingPipeline",
    "MusicTaggingTransformerConfig",
    "MusicTaggingTransformerForAudioClassification",
    "MusicTaggingTransformerModel",
    "MusicnnConfig",
    "MusicnnForAudioClassification",
    "MusicnnModel",
    "MynaConfig",
    "MynaFeatureExtractor",
    "MynaForAudioClassification",
    "MynaForPreTraining",
    "MynaModel",
    "MynaTrainer",
    "MynaTrainingArguments",
    "PlaylistHull",
    "__version__",
    "embedded_checkpoint",
    "load_labelled_audio",
    "open_audio",
    "pipeline",
    "register",
]

if TYPE_CHECKING:
    from transformers import pipeline

    from hf_mathrock.data.collator import MathRockCollator
    from hf_mathrock.data.loading import load_labelled_audio
    from hf_mathrock.models.audio_input import AudioReadError, open_audio
    from hf_mathrock.models.configuration_mathrock import MathRockConfig
    from hf_mathrock.models.configuration_music_tagger import MusicTaggerConfig
    from hf_mathrock.models.configuration_music_tagging_transformer import MusicTaggingTransformerConfig
    from hf_mathrock.models.configuration_musicnn import MusicnnConfig
    from hf_mathrock.models.configuration_myna import MynaConfig
    from hf_mathrock.models.feature_extraction_mathrock import MathRockFeatureExtractor
    from hf_mathrock.models.feature_extraction_music_tagging import MusicTaggingFeatureExtractor
    from hf_mathrock.models.feature_extraction_myna import MynaFeatureExtractor
    from hf_mathrock.models.modeling_mathrock import MathRockForAudioClassification, MathRockModel
    from hf_mathrock.models.modeling_music_tagger import MusicTaggerForAudioClassification, MusicTaggerModel
    from hf_mathrock.models.modeling_music_tagging_transformer import (
        MusicTaggingTransformerForAudioClassification,
        MusicTaggingTransformerModel,
    )
    from hf_mathrock.models.modeling_musicnn import MusicnnForAudioClassification, MusicnnModel
    from hf_mathrock.models.modeling_myna import MynaForAudioClassification, MynaForPreTraining, MynaModel
    from hf_mathrock.models.pipeline_mathrock_affect import MathRockAffectPipeline
    from hf_mathrock.models.pipeline_music_embedding import MusicEmbeddingPipeline
    from hf_mathrock.models.pipeline_music_tagging import MusicTaggingPipeline
    from hf_mathrock.playlists.hull import PlaylistHull
    from hf_mathrock.training.arguments import MathRockTrainingArguments
    from hf_mathrock.training.myna_arguments import MynaTrainingArguments
    from hf_mathrock.training.myna_trainer import MynaTrainer
    from hf_mathrock.training.trainer import MathRockTrainer
    from hf_mathrock.zoo import embedded_checkpoint


def __getattr__(name: str) -> Any:
    if name not in _EXPORTS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if not _EXPORTS[name].startswith("hf_mathrock.zoo"):
        register_now()
    value = getattr(import_module(_EXPORTS[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)


register()
