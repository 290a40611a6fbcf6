# SPDX-License-Identifier: Apache-2.0
"""Small taggers of every family, for fixtures: a few thousand parameters each."""

import torch

import hf_mathrock

MEL = {"kind": "mel", "num_mel_bins": 16}
RATE = 8000
# Family → prefix of its classes, and fields of its config.
TAGGERS = {
    "music_tagger": (
        "MusicTagger",
        {
            "architecture": "short_chunk_res",
            "sampling_rate": RATE,
            "input_samples": 8000,
            "feature": {**MEL, "max_frequency_hz": 4000.0},
            "stages": [
                {"block": "residual2d", "channels": 4, "stride": 2},
                {"block": "residual2d", "channels": 8, "stride": [8, 2]},
            ],
            "head": {"hidden": 8},
        },
    ),
    "musicnn": (
        "Musicnn",
        {
            "sampling_rate": RATE,
            "input_samples": 8192,
            "feature": {**MEL, "max_frequency_hz": 4000.0},
            "timbral_filters": 4,
            "temporal_filters": 3,
            "temporal_kernels": [9, 4],
            "width": 5,
            "dense_size": 6,
        },
    ),
    "music_tagging_transformer": (
        "MusicTaggingTransformer",
        {
            "sampling_rate": RATE,
            "input_samples": 8000,
            "feature": {**MEL, "n_fft": 256, "hop_length": 128},
            "conv_channels": 4,
            "hidden_size": 16,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
        },
    ),
}


def tagger_class(family: str, kind: str):
    """A class of a family: `kind` is "Config", "Model" or "ForAudioClassification"."""
    return getattr(hf_mathrock, TAGGERS[family][0] + kind)


def tiny_config(family: str, **fields):
    """The configuration of a small tagger."""
    return tagger_class(family, "Config")(**{**TAGGERS[family][1], **fields})


def tiny_tagger(family: str, seed: int = 0, **fields):
    """A small tagger with random weights, in evaluation mode, with batch norms as after some training."""
    torch.manual_seed(seed)
    model = tagger_class(family, "ForAudioClassification")(tiny_config(family, **fields)).eval()
    # At 0 and 1 the statistics would let an exchanged mean and bias pass.
    for module in model.modules():
        if getattr(module, "running_mean", None) is not None:
            module.running_mean.normal_(0.0, 0.1)
            module.running_var.uniform_(0.5, 2.0)
    return model


def tiny_extractor(model):
    """The extractor that feeds it."""
    return hf_mathrock.MusicTaggingFeatureExtractor.for_config(model.config)


def save_tiny_tagger(family: str, folder, **fields):
    """Save a small tagger as `pipeline(...).save_pretrained` does; returns the pipeline."""
    from transformers import pipeline

    model = tiny_tagger(family, **fields)
    pipe = pipeline("music-tagging", model=model, feature_extractor=tiny_extractor(model), device="cpu")
    pipe.save_pretrained(folder)
    return pipe
