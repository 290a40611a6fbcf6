# SPDX-License-Identifier: Apache-2.0
"""Checkpoints of the public Myna code to folders that `from_pretrained` and `pipeline` load.

The weights of `oriyonay/myna-base`, `-vertical`, `-hybrid` and `-85m` are state dicts of one module, as safetensors or
pickled tensors. Its names, a `#` standing for a layer's number, and what they become here:

| there | here |
|---|---|
| `to_patch_embedding.{1, 2, 3}` | `patch_embeddings.0.{patch_norm, projection, token_norm}` |
| `to_patch_embedding_b.{1, 2, 3}`, of a hybrid | `patch_embeddings.1.{...}` |
| `transformer.layers.#.0.norm`, `.to_qkv`, `.to_out` | `encoder.layers.#.attention_norm`, `.attention.{qkv, output}` |
| `transformer.layers.#.1.net.{0, 1, 3}` | `encoder.layers.#.{output_norm, intermediate, output}` |
| `transformer.norm` | `encoder.norm` |
| `linear_head` | left out, or `projector.0` of a `MynaForPreTraining` |
| `cls_token`, with relative positions only | `encoder.class_token` |
| `y_pos_embedding`, likewise | `patch_embeddings.0.rows` |

Any prefix that they share (`module.`, `model.`) is taken off. Positions are no parameters there: Myna adds a fixed
table, which in the published models is that of 96 frames. Longer tracks are therefore heard stretch by stretch and
averaged, as its own evaluation does (`long_input` "two_level", `max_tokens` as many as such a stretch has).
Spectrograms are of raw power, the front end "myna"; power below 1e-10 counts as 1e-10, far below the `eps` of the first
norm.

Of the version with relative positions (checkpoints with a class token) whole pickled modules were published, which can
run any code and are refused here; a plain state dict of one is read, with the front end "rpe-44k". What that cannot
promise: a file does not say which of the ways to treat positions it was trained with. The published code first had the
slopes it describes, later added the distance itself, and added nothing at all when the published models were evaluated;
its 1-D version took frequency for time. Where nothing is said, `positions` is "none", which is what those evaluations
computed. Its published figures were not reproduced, and its embedding was the 128 numbers of `linear_head`; here it is
the class token before it. Variants with rotary positions or tempo heads have no counterpart and are refused.

Source of names, layout and front end: ghost-signal/myna, the code of Yonay, Hammond and Yang's paper (MIT), files
`vit.py` and `example.py`; for the version with relative positions the code of Phillips and Koh.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from hf_mathrock.conversion.myna_checkpoint import PATCH_EMBEDDINGS, MynaCheckpoint, read_myna_checkpoint
from hf_mathrock.conversion.report import CheckpointMismatch, ConversionReport
from hf_mathrock.models.configuration_myna import FRONT_ENDS, MynaConfig
from hf_mathrock.models.feature_extraction_myna import MynaFeatureExtractor
from hf_mathrock.models.modeling_myna import MynaForPreTraining
from hf_mathrock.models.myna_positions import grid_positions, sincos_2d

POSITIONS = ("sincos_2d", "none", "alibi_1d", "alibi_2d")
LICENCE_FILE = "LICENSE-weights.txt"

_PATCH_LAYERS = {"1": "patch_norm", "2": "projection", "3": "token_norm"}
_LAYERS = {
    "0.norm": "attention_norm",
    "0.to_qkv": "attention.qkv",
    "0.to_out": "attention.output",
    "1.net.0": "output_norm",
    "1.net.1": "intermediate",
    "1.net.3": "output",
}
_HEAD = "linear_head"
_NUM_BINS = 128
# Samples and frames of the pieces that each front end's models were trained on.
_TRAINED_ON = {"default": (50_000, 96), "myna": (50_000, 96), "rpe-44k": (112_896, 256)}
# The softplus of it is below 1e-26: rows are learned, and distances mean nothing.
_NO_SLOPE = -60.0

_LICENCE = """The weights in this folder were converted by hf-mathrock from {source}.

The published models of that layout (oriyonay/myna-base, -vertical, -hybrid, -85m) are under the MIT licence:

Copyright (c) 2025 the authors of Myna (Yonay, Hammond and Yang)

Permission is hereby granted, free of charge, to any person obtaining a copy of this software and associated
documentation files (the "Software"), to deal in the Software without restriction, including without limitation the
rights to use, copy, modify, merge, publish, distribute, sublicense, and/or sell copies of the Software, and to permit
persons to whom the Software is furnished to do so, subject to the following conditions:

The above copyright notice and this permission notice shall be included in all copies or substantial portions of the
Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED, INCLUDING BUT NOT LIMITED TO THE
WARRANTIES OF MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE AUTHORS OR
COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR
OTHERWISE, ARISING FROM, OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE SOFTWARE.
"""
_LICENCE_OF_RELATIVE = """The weights in this folder were converted by hf-mathrock from {source}.

They have the layout of Myna with relative positions (Phillips and Koh). The repository of its code names the MIT
licence in its README, and its LICENSE file is the Unlicense; ask its authors what holds for the weights before you
pass them on.
"""


def convert_myna(
    source: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    patch_sizes: Sequence[Sequence[int]] | None = None,
    positions: str | None = None,
    front_end: str | None = None,
    keep_head: bool = False,
) -> ConversionReport:
    """Convert a checkpoint of the public Myna code.

    Args:
        source: A `.safetensors`, `.bin`, `.pt` or `.pth` file, or the folder of one as it is fetched from the Hub.
        out: Folder to write the model, its extractor, its code and the licence of the weights to.
        patch_sizes: `[bins, frames]` of the patches, of a hybrid of both kinds. The tensors do not tell 16 x 16 from
            128 x 2; `None`: known of hybrids, and otherwise from a `config.json` beside the weights or from "base" or
            "vertical" in the name of the file or its folder.
        positions: "sincos_2d", "none", "alibi_1d" or "alibi_2d"; `None`: the first for Myna, the second for checkpoints
            with a class token, see above.
        front_end: "myna", "rpe-44k" or "default"; `None`: the first for Myna, the second for checkpoints with a class
            token.
        keep_head: Write a `MynaForPreTraining` with `linear_head` as its projector, not a `MynaModel`.

    Returns:
        What was done.

    Raises:
        FileNotFoundError: There is no such file.
        CheckpointMismatch: Tensors are missing, unknown or of another shape; all are named. It is a `ValueError`.
        ValueError: The checkpoint is unreadable or refused, its patches cannot be known, an argument does not go with
            it, or `out` is no place to write to.
    """
    folder = Path(out)
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{os.fspath(out)!r} is a file; the model needs a folder of its own.")
    _check_choice("positions", positions, POSITIONS)
    _check_choice("front_end", front_end, tuple(FRONT_ENDS))
    found = read_myna_checkpoint(Path(source))
    if folder.exists() and folder.resolve() == found.path.resolve().parent:
        raise ValueError(f"{os.fspath(out)!r} holds the source, whose files it could overwrite; choose another folder.")
    config, notes = _config(found, patch_sizes, positions, front_end, keep_head)
    left_out = _left_out(found, config, keep_head, notes)
    names = _checked_names(found, config, keep_head, left_out)
    model = MynaForPreTraining(config)
    state = model.state_dict()
    if (raw := state.get("myna.encoder.slopes.raw")) is not None:
        raw.fill_(_NO_SLOPE)
    for there, here in names.items():
        state[here].copy_(found.values(there).reshape(state[here].shape))
    saved = model.eval() if keep_head else model.myna.eval()
    saved.save_pretrained(out)
    MynaFeatureExtractor.for_config(config).save_pretrained(out)
    licence = _LICENCE_OF_RELATIVE if found.is_relative else _LICENCE
    (folder / LICENCE_FILE).write_text(licence.format(source=found.path.name), "utf-8")
    return ConversionReport(
        source=found.path.name,
        out=os.fspath(out),
        num_parameters=sum(parameter.numel() for parameter in saved.parameters()),
        num_tensors=len(names),
        notes=[*notes, f"what is known of the licence of the published weights is in {LICENCE_FILE}"],
    )


def _check_choice(name: str, value: str | None, allowed: Sequence[str]) -> None:
    if value is not None and value not in allowed:
        raise ValueError(f"`{name}` is {value!r}; allowed: {', '.join(map(repr, allowed))}.")


def _config(
    found: MynaCheckpoint,
    patch_sizes: Sequence[Sequence[int]] | None,
    positions: str | None,
    front_end: str | None,
    keep_head: bool,
) -> tuple[MynaConfig, list[str]]:
    """The configuration that the tensors tell, with that of the published models where they do not; and notes."""
    hidden, _ = found.matrix_shape(f"{PATCH_EMBEDDINGS[0]}.2.weight", (384, 256))
    of_three, _ = found.matrix_shape("transformer.layers.0.0.to_qkv.weight", (3 * hidden, hidden))
    intermediate, _ = found.matrix_shape("transformer.layers.0.1.net.1.weight", (4 * hidden, hidden))
    if of_three != 3 * hidden:
        raise ValueError(
            f"{found.path.name!r}: queries, keys and values are {of_three} wide together and tokens {hidden}; only "
            f"attention as wide as its tokens, {3 * hidden} together, has a counterpart here."
        )
    sizes, notes = found.patch_sizes(patch_sizes)
    if found.prefix:
        notes.insert(0, f"{found.prefix!r} was taken off the names")
    name = front_end or ("rpe-44k" if found.is_relative else "myna")
    notes.append(f"front end {name!r}" + ("" if front_end else ", as that layout was trained with"))
    places, slopes = _places(found, positions, notes)
    has_class_token = "cls_token" in found.tensors
    samples, frames = _TRAINED_ON[name]
    fields: dict[str, Any] = {
        **MynaConfig.front_end(name),
        "input_samples": samples,
        "patch_sizes": [list(size) for size in sizes],
        "hidden_size": hidden,
        "num_hidden_layers": found.num_layers(),
        "num_attention_heads": found.num_heads(hidden),
        "intermediate_size": intermediate,
        "use_cls_token": has_class_token,
        "pooling": "cls" if has_class_token else "mean",
        "position_embedding": places,
        "slopes": slopes,
    }
    if places == "sincos_2d":
        fields["max_tokens"] = max(1, *(_NUM_BINS // bins * (frames // columns) for bins, columns in sizes))
        fields["long_input"] = "two_level"
        notes.append(f"tracks of more than {frames} frames are heard stretch by stretch and averaged")
    if keep_head:
        fields["projector_sizes"] = [_head_size(found)]
    return MynaConfig(**fields), notes


def _places(found: MynaCheckpoint, given: str | None, notes: list[str]) -> tuple[str, str]:
    """`position_embedding` and `slopes`."""
    places = given or ("none" if found.is_relative else "sincos_2d")
    if given is None and found.is_relative:
        notes.append(
            "the file does not say which positions it was trained with; taken as computed when the published models "
            "were evaluated, without distances (--positions names others)"
        )
    has_rows = "y_pos_embedding" in found.tensors
    if has_rows and places == "none":
        return "alibi_1d", "learned"
    if has_rows != (places == "alibi_1d"):
        holds = "holds" if has_rows else "lacks"
        allowed = "'none' or 'alibi_1d'" if has_rows else "'none', 'alibi_2d' or 'sincos_2d'"
        raise ValueError(
            f"{found.path.name!r} {holds} learned rows (y_pos_embedding); `positions` is {given!r}, and may be "
            f"{allowed}."
        )
    return places, "halving"


def _head_size(found: MynaCheckpoint) -> int:
    if any(found.tensors.get(f"{_HEAD}.{part}") is None for part in ("weight", "bias")):
        raise ValueError(
            f"{found.path.name!r} holds no single linear layer {_HEAD!r} to keep; convert it without --keep-head."
        )
    if found.is_hybrid:
        raise ValueError(
            f"{found.path.name!r} is a hybrid: its {_HEAD!r} looked at each half of the embedding by itself, and a "
            "projector here looks at all of it. Convert it without --keep-head."
        )
    return found.matrix_shape(f"{_HEAD}.weight", (128, 0))[0]


def _checked_names(found: MynaCheckpoint, config: MynaConfig, keep_head: bool, left_out: set[str]) -> dict[str, str]:
    """The public name of every tensor of the model, and its name here; the checkpoint has these and no others."""
    with torch.device("meta"):
        state = MynaForPreTraining(config).state_dict()
    modules = {
        f"{there}.{layer}": f"myna.patch_embeddings.{index}.{here}"
        for index, there in enumerate(PATCH_EMBEDDINGS[: len(config.patch_sizes)])
        for layer, here in _PATCH_LAYERS.items()
    }
    modules |= {
        f"transformer.layers.{index}.{there}": f"myna.encoder.layers.{index}.{here}"
        for index in range(config.num_hidden_layers)
        for there, here in _LAYERS.items()
    }
    modules |= {"transformer.norm": "myna.encoder.norm"} | ({_HEAD: "projector.0"} if keep_head else {})
    names = {
        f"{there}.{part}": f"{here}.{part}"
        for there, here in modules.items()
        for part in ("weight", "bias")
        if f"{here}.{part}" in state
    }
    shapes = {there: tuple(state[here].shape) for there, here in names.items()}
    if config.use_cls_token:
        names["cls_token"], shapes["cls_token"] = "myna.encoder.class_token", (1, 1, config.hidden_size)
    if config.position_embedding == "alibi_1d":
        names["y_pos_embedding"] = "myna.patch_embeddings.0.rows"
        shapes["y_pos_embedding"] = (_NUM_BINS // config.patch_sizes[0][0], config.hidden_size)
    missing = [name for name in names if name not in found.tensors]
    unexpected = [found.prefix + name for name in found.tensors if name not in names and name not in left_out]
    misshapen = [
        f"{name} {tuple(found.tensors[name].shape)} for {shape}"
        for name, shape in shapes.items()
        if name in found.tensors and tuple(found.tensors[name].shape) != shape
    ]
    if missing or unexpected or misshapen:
        raise CheckpointMismatch(
            f"{found.path.name} does not fit the published layout",
            missing,
            unexpected,
            misshapen,
            "Variants with rotary positions, tempo heads or a decoder of masked patches have no counterpart here.",
        )
    return names


def _left_out(found: MynaCheckpoint, config: MynaConfig, keep_head: bool, notes: list[str]) -> set[str]:
    """Tensors that the model does without, for a reason that the notes tell."""
    head = set() if keep_head else {name for name in found.tensors if name.startswith(f"{_HEAD}.")}
    if head:
        notes.append(f"{_HEAD} is left out: the embedding is what comes before it")
    named = zip(("pos_embedding", "pos_embedding_b"), config.patch_sizes, strict=False)
    tables = {name for name, size in named if _is_fixed_table(found.tensors.get(name), _NUM_BINS // size[0])}
    if tables:
        notes.append("tables of positions are computed, not copied")
    slopes = {"transformer.alibi_2d.slopes"} & set(found.tensors)
    if slopes:
        notes.append("the slopes in it were not applied by the code that wrote them, and are left out")
    return head | tables | slopes


def _is_fixed_table(tensor: torch.Tensor | None, num_rows: int) -> bool:
    """Whether a tensor is the table of sines and cosines of so many rows and any number of columns."""
    if tensor is None or tensor.dim() < 2 or tensor.shape[-1] % 4 or tensor.shape[-1] < 8:
        return False
    table = tensor.float().flatten(0, -2)
    if len(table) % num_rows or not 0 < len(table) <= 2**16:
        return False
    # Half precision keeps three digits.
    return torch.allclose(
        table, sincos_2d(grid_positions(num_rows, len(table) // num_rows), table.shape[-1]), atol=1e-2
    )
