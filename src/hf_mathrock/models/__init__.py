# SPDX-License-Identifier: Apache-2.0
"""Everything that travels to the Hub, on one flat shelf.

The rule: a file here imports its siblings (`from` dot name), the standard library, torch, numpy, transformers and
huggingface_hub at import time, and nothing else. `save_pretrained` copies a class's file and its siblings into the
model repository, where they must load on a machine that has never heard of this package.

Families: `mathrock` (WavLM + CLAP audio, several tasks); the taggers `music_tagger` (chains of stages: twelve named
architectures and whatever you put together), `musicnn` (and the vgg published beside it) and
`music_tagging_transformer`.

Dimension names used in the docstrings: `batch_size` (windows in a forward pass), `num_clips` (recordings behind
them), `num_samples` (of a window, at the model's rate), `num_frames` (of a spectrogram, or of WavLM), `num_mel_bins`,
`num_bands` (of any other spectrogram), `num_tokens` (steps in time that an encoder hears), `num_labels` (of one task),
`num_outputs` (labels of all tasks), `hidden_size` (of the embedding).
"""
