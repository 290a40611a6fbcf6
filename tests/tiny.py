# SPDX-License-Identifier: Apache-2.0
"""The model that most tests use, for fixtures and for the programs that tests start."""

# Fields of `MathRockConfig`: some thirty thousand parameters.
SETTINGS = {
    "wavlm_config": {
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 24,
        "conv_dim": [8] * 7,
        "num_conv_pos_embeddings": 8,
        "num_conv_pos_embedding_groups": 2,
    },
    "clap_audio_config": {
        "patch_embeds_hidden_size": 8,
        "hidden_size": 16,
        "depths": [1, 1],
        "num_attention_heads": [1, 2],
        "num_hidden_layers": 2,
        "projection_dim": 8,
    },
    "projection_size": 12,
    "hidden_size": 16,
}
