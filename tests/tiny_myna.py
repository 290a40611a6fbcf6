"""Tiny Myna encoders with random weights."""

import torch

from hf_mathrock.models.configuration_myna import MynaConfig
from hf_mathrock.models.feature_extraction_myna import MynaFeatureExtractor
from hf_mathrock.models.modeling_myna import MynaForPreTraining, MynaModel

SETTINGS = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3, "projector_sizes": [24, 16]}


def tiny_myna_config(**changes):
    return MynaConfig(**{**SETTINGS, **changes})


def tiny_myna(seed=0, **changes):
    """An encoder in evaluation mode."""
    torch.manual_seed(seed)
    return MynaModel(tiny_myna_config(**changes)).eval()


def tiny_myna_for_pretraining(seed=0, **changes):
    """An encoder with its projector, in evaluation mode."""
    torch.manual_seed(seed)
    return MynaForPreTraining(tiny_myna_config(**changes)).eval()


def tiny_myna_extractor(**changes):
    return MynaFeatureExtractor.for_config(tiny_myna_config(**changes))
