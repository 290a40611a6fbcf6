# SPDX-License-Identifier: Apache-2.0
"""The published musicnn and vgg checkpoints to folders that `from_pretrained` and `pipeline` load.

Three layouts are read: TensorFlow checkpoints as they come with jordipons/musicnn, the Keras models of
Quint-e/musicnn_keras, and safetensors whose tensors have TensorFlow's names and shapes. Which model it is, is seen in
its tensors.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open

from hf_mathrock.conversion.keras_weights import is_hdf5, read_keras_weights
from hf_mathrock.conversion.report import CheckpointMismatch, ConversionReport, first_line, stand_in
from hf_mathrock.conversion.stored_tensor import StoredTensor
from hf_mathrock.conversion.tensorflow_checkpoint import (
    checkpoint_prefix,
    masked_crc32c,
    read_tensorflow_checkpoint,
)
from hf_mathrock.models.configuration_musicnn import MusicnnConfig
from hf_mathrock.models.configuration_tagging import NUM_TAGS
from hf_mathrock.models.feature_extraction_music_tagging import MusicTaggingFeatureExtractor
from hf_mathrock.models.modeling_musicnn import MusicnnForAudioClassification
from hf_mathrock.models.tag_vocabularies import MAGNATAGATUNE_TAGS, MSD_TAGS

VOCABULARIES = {"MTT": MAGNATAGATUNE_TAGS, "MSD": MSD_TAGS}
LICENCE_FILE = "LICENSE-weights.txt"

# The published models by the checksum of their last bias, as the indices of their checkpoints record it.
_PUBLISHED = {
    0x19EEF5A7: "MTT_musicnn",
    0x13E72B62: "MTT_vgg",
    0x77C470BF: "MSD_musicnn",
    0xFF435D95: "MSD_musicnn_big",
    0x2B0A65BE: "MSD_vgg",
}
_MAX_SIZE = 4096  # of any layer; the widest published one has 512
# TensorFlow's names of the layers, in order, and where each lives here.
_MUSICNN = {
    "batch_normalization": "musicnn.feature_norm",
    "conv2d": "musicnn.trunk.branches.0.convolution",
    "batch_normalization_1": "musicnn.trunk.branches.0.norm",
    "conv2d_1": "musicnn.trunk.branches.1.convolution",
    "batch_normalization_2": "musicnn.trunk.branches.1.norm",
    "conv2d_2": "musicnn.trunk.branches.2.convolution",
    "batch_normalization_3": "musicnn.trunk.branches.2.norm",
    "conv2d_3": "musicnn.trunk.branches.3.convolution",
    "batch_normalization_4": "musicnn.trunk.branches.3.norm",
    "conv2d_4": "musicnn.trunk.branches.4.convolution",
    "batch_normalization_5": "musicnn.trunk.branches.4.norm",
    "conv2d_5": "musicnn.trunk.convolutions.0",
    "batch_normalization_6": "musicnn.trunk.norms.0",
    "conv2d_6": "musicnn.trunk.convolutions.1",
    "batch_normalization_7": "musicnn.trunk.norms.1",
    "conv2d_7": "musicnn.trunk.convolutions.2",
    "batch_normalization_8": "musicnn.trunk.norms.2",
    "batch_normalization_9": "musicnn.trunk.pooled_norm",
    "dense": "musicnn.trunk.dense",
    "batch_normalization_10": "musicnn.trunk.dense_norm",
    "dense_1": "classifier",
}
_VGG = {
    "batch_normalization": "musicnn.feature_norm",
    **{f"{number + 1}CNN": f"musicnn.trunk.convolutions.{number}" for number in range(5)},
    **{f"batch_normalization_{number + 1}": f"musicnn.trunk.norms.{number}" for number in range(5)},
    "dense": "classifier",
}
# Keras' names of the layers where they differ.
_KERAS_MUSICNN = {
    **{f"midend_conv{number}": f"conv2d_{number + 4}" for number in (1, 2, 3)},
    **{f"bn_midend_conv{number}": f"batch_normalization_{number + 5}" for number in (1, 2, 3)},
    "bn_flatpool": "batch_normalization_9",
    "bn_dense": "batch_normalization_10",
}
_KERAS_VGG = {
    "bn_input": "batch_normalization",
    **{f"bn_conv{number}": f"batch_normalization_{number}" for number in range(1, 6)},
    "output": "dense",
}
_LAYER_VARIABLES = {"kernel": "weight", "bias": "bias"}
_NORM_VARIABLES = {"gamma": "weight", "beta": "bias", "moving_mean": "running_mean", "moving_variance": "running_var"}
_OF_AN_OPTIMISER = re.compile(r".*/(Adam|Adam_1|Momentum)|beta[12]_power(_1)?|global_step|training/.*")

_POOLING_NOTES = {
    "MTT": "pooled as it was trained",
    "MSD": "pooled as it was trained, first 4x1 and then 1x4; the released code pools 4x1 and 2x2 with strides of 2x2, "
    "and its probabilities differ by up to 0.15",
    None: "pooled like MTT_vgg; the tensors do not tell, and MSD_vgg was trained with other pooling",
}

_LICENCE = """The weights in this folder were converted by hf-mathrock from {source}.

The published models of that layout (MTT_musicnn, MTT_vgg, MSD_musicnn, MSD_musicnn_big, MSD_vgg) come from
https://github.com/jordipons/musicnn, their conversions to Keras from https://github.com/Quint-e/musicnn_keras, both
under the ISC licence:

Copyright (c) Music Technology Group, Universitat Pompeu Fabra 2019. Code developed by Jordi Pons (www.jordipons.me).
Copyright 2020 Elio Quinton (the conversions to Keras).

Permission to use, copy, modify, and/or distribute this software for any purpose with or without fee is hereby granted,
provided that the above copyright notice and this permission notice appear in all copies.

THE SOFTWARE IS PROVIDED "AS IS" AND THE AUTHOR DISCLAIMS ALL WARRANTIES WITH REGARD TO THIS SOFTWARE INCLUDING ALL
IMPLIED WARRANTIES OF MERCHANTABILITY AND FITNESS. IN NO EVENT SHALL THE AUTHOR BE LIABLE FOR ANY SPECIAL, DIRECT,
INDIRECT, OR CONSEQUENTIAL DAMAGES OR ANY DAMAGES WHATSOEVER RESULTING FROM LOSS OF USE, DATA OR PROFITS, WHETHER IN AN
ACTION OF CONTRACT, NEGLIGENCE OR OTHER TORTIOUS ACTION, ARISING OUT OF OR IN CONNECTION WITH THE USE OR PERFORMANCE OF
THIS SOFTWARE.
"""


def convert_musicnn(
    source: str | os.PathLike[str], out: str | os.PathLike[str], tags: str | os.PathLike[str] | None = None
) -> ConversionReport:
    """Convert a checkpoint of musicnn or of its vgg.

    Args:
        source: Folder of a TensorFlow checkpoint or one of its files, a Keras `.h5`, or a `.safetensors` with
            TensorFlow's names and shapes.
        out: Folder to write the model, its extractor, its code and the licence of the weights to.
        tags: What its outputs stand for: "MTT", "MSD", or a text file with a tag a line; default: known for the
            published weights, and otherwise taken from "MTT" or "MSD" in the source's name.

    Returns:
        What was done.

    Raises:
        FileNotFoundError: A file does not exist.
        ImportError: The source is a `.h5`, and h5py is missing.
        CheckpointMismatch: The checkpoint's tensors do not fit either model: missing, unexpected and misshapen ones
            are named. It is a `ValueError`.
        ValueError: The checkpoint is unreadable or damaged, its tags are not known, or `out` is no place to write to.
    """
    path, folder = Path(source), Path(out)
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{os.fspath(out)!r} is a file; the model needs a folder of its own.")
    if folder.exists() and folder.resolve() in (path.resolve(), path.resolve().parent):
        raise ValueError(f"{os.fspath(out)!r} holds the source, whose files it could overwrite; choose another folder.")
    found = read_tensors(path)
    stored = {name: tensor for name, tensor in found.items() if not _OF_AN_OPTIMISER.fullmatch(name)}
    settings, layers = _recognised(path, stored)
    names = _checked_names(path, stored, settings, layers)
    tensors = {name: _values(path, name, stored[name]) for name in names}
    last = f"{list(layers)[-1]}/bias"
    published = _PUBLISHED.get(masked_crc32c(tensors[last].astype("<f4").tobytes()))
    corpus, notes = _corpus(path, published, tags)
    labels = _labels(corpus if tags is None else tags, len(tensors[last]))
    if settings["variant"] == "vgg":
        settings["pooling"] = corpus or "MTT"
        notes.append(_POOLING_NOTES[corpus])
    if len(stored) < len(found):
        notes.append(f"{len(found) - len(stored)} variables of the optimiser are left out")
    settings["id2label"] = dict(enumerate(labels))
    model = MusicnnForAudioClassification(MusicnnConfig(**settings))
    state = model.state_dict()
    for name, values in tensors.items():
        state[names[name]].copy_(_as_here(values, state[names[name]].shape))
    model.eval().save_pretrained(out)
    MusicTaggingFeatureExtractor.for_config(model.config).save_pretrained(out)
    (folder / LICENCE_FILE).write_text(_LICENCE.format(source=published or _shown(path)), "utf-8")
    return ConversionReport(
        source=_shown(path),
        out=os.fspath(out),
        num_parameters=sum(parameter.numel() for parameter in model.parameters()),
        num_tensors=len(tensors),
        notes=[*notes, f"the licence of the published weights (ISC) is in {LICENCE_FILE}"],
    )


def _shown(path: Path) -> str:
    """What to call a source: the files of a published checkpoint have no name before their endings."""
    path = path.resolve()
    return path.parent.name if path.name.startswith(".") else path.name


def read_tensors(source: Path) -> dict[str, StoredTensor]:
    """The tensors of a checkpoint of any of the three layouts by TensorFlow's names, unread.

    Raises:
        FileNotFoundError: There is no such file.
        ImportError: It is a Keras `.h5`, and h5py is missing.
        ValueError: It is none of the three, or damaged.
    """
    if not source.exists():
        raise FileNotFoundError(
            f"There is nothing at {os.fspath(source)!r}; expected the folder of a TensorFlow checkpoint, a Keras .h5 "
            "or a .safetensors file."
        )
    if source.is_file() and is_hdf5(source):
        tensors = read_keras_weights(source)
        layers = _KERAS_VGG if any(name.startswith("1CNN/") for name in tensors) else _KERAS_MUSICNN
        renamed = {_renamed(name, layers): tensor for name, tensor in tensors.items()}
        if len(renamed) < len(tensors):
            raise ValueError(f"{source.name!r} holds layers twice, under Keras' names and under TensorFlow's.")
        return renamed
    if source.is_dir() or re.search(r"\.(index|meta|data-\d+-of-\d+)$", source.name) or source.name == "checkpoint":
        return read_tensorflow_checkpoint(checkpoint_prefix(source))
    return _read_safetensors(source)


def _renamed(name: str, layers: Mapping[str, str]) -> str:
    layer, _, variable = name.rpartition("/")
    return f"{layers.get(layer, layer)}/{variable}"


def _read_safetensors(path: Path) -> dict[str, StoredTensor]:
    dtypes = {"F16": "float16", "F32": "float32", "F64": "float64"}

    def values(name: str) -> np.ndarray:
        with safe_open(path, framework="numpy") as file:
            return file.get_tensor(name)

    try:
        with safe_open(path, framework="numpy") as file:
            slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118 (it is no mapping)
            return {
                name: StoredTensor(
                    tuple(part.get_shape()), dtypes.get(part.get_dtype(), part.get_dtype()), partial(values, name)
                )
                for name, part in slices.items()
            }
    except (SafetensorError, OSError) as error:
        damage = f"is neither a .safetensors file nor a Keras .h5, or is damaged: {first_line(error)}."
        raise ValueError(f"{path.name!r} {stand_in(path) or damage}") from error


def _recognised(path: Path, stored: Mapping[str, StoredTensor]) -> tuple[dict[str, Any], dict[str, str]]:
    """Fields of the config that the tensors tell, and the layers of the model that they are of."""

    def last_size(name: str, default: int) -> int:
        shape = stored[name].shape if name in stored else ()
        size = shape[-1] if shape else default
        # A file of some kilobytes can claim gigabytes.
        if not 0 < size <= _MAX_SIZE:
            raise ValueError(
                f"{path.name!r} is refused: {name!r} claims {size:,} outputs; allowed: 1 to {_MAX_SIZE:,}."
            )
        return size

    if "1CNN/kernel" in stored:
        width, num_labels = last_size("1CNN/kernel", 128), last_size("dense/kernel", NUM_TAGS)
        return {"variant": "vgg", "width": width, "num_labels": num_labels}, _VGG
    settings = {
        "variant": "musicnn",
        "width": last_size("conv2d_5/kernel", 64),
        "dense_size": last_size("dense/kernel", 200),
        "num_labels": last_size("dense_1/kernel", NUM_TAGS),
    }
    return settings, _MUSICNN


def _checked_names(
    path: Path, stored: Mapping[str, StoredTensor], settings: dict[str, Any], layers: Mapping[str, str]
) -> dict[str, str]:
    """TensorFlow's name of every tensor of the model, and its name here; the checkpoint has these and no others."""
    with torch.device("meta"):
        model = MusicnnForAudioClassification(MusicnnConfig(**settings))
    names, misshapen = {}, []
    tensors = {name: tensor for name, tensor in model.state_dict().items() if not name.endswith("num_batches_tracked")}
    for layer, module in layers.items():
        is_norm = f"{module}.running_mean" in tensors
        for variable in _NORM_VARIABLES if is_norm else _LAYER_VARIABLES:
            here = f"{module}.{(_NORM_VARIABLES if is_norm else _LAYER_VARIABLES)[variable]}"
            there = f"{layer}/{variable}"
            names[there] = here
            wanted = _shape_there(tuple(tensors[here].shape))
            if there in stored and stored[there].shape != wanted:
                misshapen.append(f"{there} {stored[there].shape} for {wanted}")
    missing = [name for name in names if name not in stored]
    unexpected = [name for name in stored if name not in names]
    if len(missing) == len(names):
        verdict = f"{path.name} is no checkpoint of musicnn: none of its {len(stored)} names is known"
        raise CheckpointMismatch(verdict, missing, unexpected, misshapen, "Is it the right file?")
    if missing or unexpected or misshapen:
        raise CheckpointMismatch(
            f"{path.name} does not fit the published graphs",
            missing,
            unexpected,
            misshapen,
            "Checkpoints of musicnn-training are of another network, which musicnn itself cannot load either.",
        )
    return names


def _values(path: Path, name: str, tensor: StoredTensor) -> np.ndarray:
    """The values of a tensor, checked."""
    if not tensor.is_floating:
        raise ValueError(f"{path.name!r}: {name!r} is of type {tensor.dtype}; weights are floating-point numbers.")
    try:
        values = tensor.read()
    except SafetensorError as error:
        raise ValueError(f"{path.name!r} is damaged in {name!r}: {first_line(error)}.") from error
    if not np.isfinite(values).all() or (name.endswith("/moving_variance") and (values < 0).any()):
        raise ValueError(f"{path.name!r} is damaged: {name!r} holds values that no training leaves behind.")
    return values


def _shape_there(shape: tuple[int, ...]) -> tuple[int, ...]:
    """TensorFlow's shape of one of our tensors."""
    match shape:
        case (filters, channels, time, frequency):
            return (time, frequency, channels, filters)
        case (filters, channels, time):
            return (time, channels, 1, filters)
        case (outputs, inputs):
            return (inputs, outputs)
    return shape


def _as_here(values: np.ndarray, shape: torch.Size) -> torch.Tensor:
    """A tensor in our layout, from TensorFlow's."""
    match len(shape):
        case 4:
            values = values.transpose(3, 2, 0, 1)
        case 3:
            values = values[:, :, 0].transpose(2, 1, 0)
        case 2:
            values = values.T
    return torch.from_numpy(np.array(values, dtype=np.float32, order="C"))


def _corpus(path: Path, published: str | None, tags: Any) -> tuple[str | None, list[str]]:
    """Which corpus the model was trained on, "MTT" or "MSD", and how that is known."""
    if published is not None:
        if tags in VOCABULARIES and tags != published[:3]:
            raise ValueError(f"{path.name!r} holds the published {published}; its tags are not {tags}'s.")
        return published[:3], [f"recognised by the checksum of its last bias: the published {published}"]
    if tags in VOCABULARIES:
        return str(tags), []
    for name in (path.resolve().name, path.resolve().parent.name):
        named = {match.upper() for match in re.findall(r"(?i)(?<![a-z])(MTT|MSD)(?![a-z])", name)}
        if len(named) == 1:
            corpus = named.pop()
            return corpus, [f"not published weights; taken for trained on {corpus}, since {name!r} says so"]
    if tags is None:
        raise ValueError(
            f"{path.name!r} is not one of the published models, and neither its name nor its folder's says whose tags "
            "its outputs are: pass --tags MTT, --tags MSD, or --tags FILE with a tag a line."
        )
    return None, []


def _labels(tags: Any, count: int) -> list[str]:
    """The labels of the outputs, in order."""
    if tags in VOCABULARIES:
        labels = list(VOCABULARIES[tags])
        source = f"{tags} has"
    else:
        try:
            text = Path(tags).read_text("utf-8")
        except FileNotFoundError:
            raise FileNotFoundError(f"There is no file {os.fspath(tags)!r}; --tags takes MTT, MSD or a file.") from None
        except UnicodeDecodeError as error:
            raise ValueError(f"{os.fspath(tags)!r} is no text in UTF-8; expected a tag a line.") from error
        labels = [line.strip() for line in text.splitlines() if line.strip()]
        source = f"{Path(tags).name!r} names"
    if len(labels) != count:
        raise ValueError(f"{source} {len(labels)} tags; the model has {count} outputs.")
    return labels
