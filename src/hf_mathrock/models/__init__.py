# SPDX-License-Identifier: Apache-2.0
"""Everything that travels to the Hub, on one flat shelf.

The rule: a file here imports its siblings (`from` dot name), the standard library, torch, numpy, transformers and
huggingface_hub at import time, and nothing else. `save_pretrained` copies a class's file and its siblings into the
model repository, where they must load on a machine that has never heard of this package.

Families: `mathrock` (WavLM + CLAP audio, several tasks).

Dimension names used in the docstrings: `batch_size` (windows in a forward pass), `num_clips` (recordings behind
them), `num_samples` (at 16 kHz for `input_values`), `num_frames` (WavLM frames, 50 a second with the base's strides; or
mel frames, 100 a second), `num_mel_bins` (64), `num_labels` (of one task), `hidden_size` (of the fused embedding).
"""
