# SPDX-License-Identifier: Apache-2.0
"""Myna written out in numpy and double precision, pair by pair of tokens: what the model's numbers are held to."""

import math

import numpy as np
from scipy.special import erf

HALVING = {
    1: [2**-8],
    2: [2**-4, 2**-8],
    3: [2**-4, 2**-8, 2**-9],
    4: [1 / 4, 1 / 16, 1 / 64, 1 / 256],
    6: [1 / 4, 1 / 16, 1 / 64, 1 / 256, 1 / 512, 1 / 1024],
    12: [2.0**-power for power in range(1, 13)],
}
CANONICAL = {
    1: [2**-8],
    2: [2**-4, 2**-8],
    3: [2**-4, 2**-8, 2**-2],
    4: [1 / 4, 1 / 16, 1 / 64, 1 / 256],
    6: [1 / 4, 1 / 16, 1 / 64, 1 / 256, 1 / 2, 1 / 8],
    12: [2.0**-power for power in (1, 2, 3, 4, 5, 6, 7, 8, 0.5, 1.5, 2.5, 3.5)],
}
SLOPES = {"halving": HALVING, "canonical": CANONICAL, "learned": HALVING}


def patches_at(spectrogram, positions, patch_size=(16, 16)):
    """Patches of a spectrogram `(num_frames, num_mel_bins)` at `(num_tokens, 2)` columns and rows, each flattened bin
    by bin, frame by frame within a bin."""
    bins, frames = patch_size
    return np.stack(
        [
            spectrogram[time * frames : (time + 1) * frames, row * bins : (row + 1) * bins].T.reshape(-1)
            for time, row in np.asarray(positions)
        ]
    )


def grid(num_frames, num_mel_bins=128, patch_size=(16, 16)):
    """Columns and rows of all patches, the lowest row first, `(num_tokens, 2)`."""
    bins, frames = patch_size
    return np.array([(time, row) for row in range(num_mel_bins // bins) for time in range(num_frames // frames)])


def score_bias(positions, slopes, freq_scale=1.0):
    """`(num_heads, 1 + num_tokens, 1 + num_tokens)` with the class token first; `freq_scale` 0 leaves time alone."""
    num_tokens = len(positions)
    bias = np.zeros((len(slopes), 1 + num_tokens, 1 + num_tokens))
    for head, slope in enumerate(slopes):
        for query, (time, row) in enumerate(np.asarray(positions, dtype=float)):
            for key, (other_time, other_row) in enumerate(np.asarray(positions, dtype=float)):
                distance = abs(time - other_time) + freq_scale * abs(row - other_row)
                bias[head, 1 + query, 1 + key] = -slope * distance
    return bias


def sincos(positions, hidden_size):
    """Places to be added, `(num_tokens, hidden_size)`."""
    quarter = hidden_size // 4
    rates = np.array([10_000.0 ** (-i / (quarter - 1)) for i in range(quarter)])
    x, y = (np.asarray(positions, dtype=float)[:, axis, None] * rates for axis in (0, 1))
    return np.concatenate([np.sin(x), np.cos(x), np.sin(y), np.cos(y)], axis=1)


def turned(vectors, positions, base):
    """Each head's channels `(num_heads, num_tokens, head_size)` turned in pairs: the first half of them by the column,
    the second by the row."""
    head_size = vectors.shape[-1]
    pairs = head_size // 4
    result = np.empty_like(vectors)
    for pair in range(head_size // 2):
        axis, step = divmod(pair, pairs)
        angle = np.asarray(positions, dtype=float)[:, axis] * base ** (-step / pairs)
        even, odd = vectors[..., 2 * pair], vectors[..., 2 * pair + 1]
        result[..., 2 * pair] = even * np.cos(angle) - odd * np.sin(angle)
        result[..., 2 * pair + 1] = even * np.sin(angle) + odd * np.cos(angle)
    return result


class NumpyMyna:
    """The encoder of a model with one patch size and a class token."""

    def __init__(self, model):
        self.config = model.config
        self.weights = {name: tensor.detach().double().numpy() for name, tensor in model.state_dict().items()}

    def weight(self, name):
        (found,) = (tensor for key, tensor in self.weights.items() if f".{key}".endswith(f".{name}"))
        return found

    def norm(self, states, name):
        centred = states - states.mean(-1, keepdims=True)
        variance = np.square(centred).mean(-1, keepdims=True)
        scaled = centred / np.sqrt(variance + self.config.layer_norm_eps)
        return scaled * self.weight(f"{name}.weight") + self.weight(f"{name}.bias")

    def linear(self, states, name, bias=True):
        product = states @ self.weight(f"{name}.weight").T
        return product + self.weight(f"{name}.bias") if bias else product

    def tokens(self, patches, positions):
        states = self.norm(self.linear(self.norm(patches, "patch_norm"), "projection"), "token_norm")
        if self.config.position_embedding == "sincos_2d":
            return states + sincos(positions, self.config.hidden_size)
        if self.config.position_embedding == "alibi_1d":
            return states + self.weight("rows")[np.asarray(positions)[:, 1]]
        return states

    def scores(self, query, key, positions):
        config, scale = self.config, 1 / math.sqrt(query.shape[-1])
        scores = query @ key.transpose(0, 2, 1) * scale
        if config.position_embedding == "rope_2d":
            turned_query, turned_key = (turned(part[:, 1:], positions, config.rope_base) for part in (query, key))
            scores[:, 1:, 1:] = turned_query @ turned_key.transpose(0, 2, 1) * scale
        if config.position_embedding.startswith("alibi"):
            slopes = SLOPES[config.slopes][config.num_attention_heads]
            freq_scale = config.freq_scale if config.position_embedding == "alibi_2d" else 0.0
            scores = scores + score_bias(positions, slopes, freq_scale)
        return scores

    def __call__(self, patches, positions):
        """States after the last norm, `(1 + num_tokens, hidden_size)`, the class token first."""
        config = self.config
        states = np.concatenate([self.weight("class_token").reshape(1, -1), self.tokens(patches, positions)])
        for index in range(config.num_hidden_layers):
            layer = f"layers.{index}"
            projected = self.linear(self.norm(states, f"{layer}.attention_norm"), f"{layer}.attention.qkv", bias=False)
            query, key, value = (
                part.reshape(len(states), config.num_attention_heads, -1).transpose(1, 0, 2)
                for part in np.split(projected, 3, axis=1)
            )
            scores = self.scores(query, key, positions)
            weights = np.exp(scores - scores.max(-1, keepdims=True))
            attended = weights / weights.sum(-1, keepdims=True) @ value
            states = states + self.linear(
                attended.transpose(1, 0, 2).reshape(len(states), -1), f"{layer}.attention.output", bias=False
            )
            wide = self.linear(self.norm(states, f"{layer}.output_norm"), f"{layer}.intermediate")
            wide = wide * 0.5 * (1 + erf(wide / math.sqrt(2)))
            states = states + self.linear(wide, f"{layer}.output")
        return self.norm(states, "encoder.norm")
