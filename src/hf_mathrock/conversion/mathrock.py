# SPDX-License-Identifier: Apache-2.0
"""The reference's `model.pth` to a folder that `from_pretrained` and `pipeline` load."""

from __future__ import annotations

import json
import os
import pickle
import pickletools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import WavLMConfig
from transformers.models.clap.configuration_clap import ClapAudioConfig

from hf_mathrock.conversion.report import CheckpointMismatch, ConversionReport, first_line, stand_in
from hf_mathrock.models.configuration_mathrock import MathRockConfig
from hf_mathrock.models.feature_extraction_mathrock import MathRockFeatureExtractor
from hf_mathrock.models.modeling_mathrock import MathRockForAudioClassification

# Where each part of the reference lives here. Its one-label heads are bare layers, ours follow a dropout.
_PARTS = {
    "wavlm.": "mathrock.wavlm.",
    "clap.": "mathrock.clap_audio.",
    "wlm_proj.": "mathrock.wavlm_projection.",
    "clp_proj.": "mathrock.clap_audio_projection.",
    "fusion.": "mathrock.fusion.",
    "emo_head.": "heads.emotion.",
    "vibe_head.": "heads.vibe.1.",
    "int_head.": "heads.intensity.1.",
    "tmp_head.": "heads.tempo.1.",
}
# torch's older spelling of a weight-normalised layer.
_WEIGHT_NORM = {".weight_g": ".parametrizations.weight.original0", ".weight_v": ".parametrizations.weight.original1"}
# Buffers that checkpoints of other transformers versions hold and ours recomputes from the config.
_RECOMPUTED = ("position_ids", "relative_position_index")


# Opcodes by which a pickle reaches code.
_REACHES_CODE = {"GLOBAL", "STACK_GLOBAL", "INST", "OBJ", "NEWOBJ", "NEWOBJ_EX", "REDUCE", "EXT1", "EXT2", "EXT4"}


def read_state_dict(source: str | os.PathLike[str]) -> dict[str, torch.Tensor]:
    """Tensors of a checkpoint, wrapped in `{"model_state_dict": …}` or bare, without running any code in it.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is no checkpoint of tensors, or asks for code to be run.
    """
    path = Path(source)
    if not path.is_file():
        raise FileNotFoundError(f"There is no file {str(path)!r}; expected a checkpoint such as model.pth.")
    try:
        # Tensors whose parts contradict each other could make later steps read outside them.
        with torch.sparse.check_sparse_tensor_invariants():
            loaded = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ValueError(f"{path.name} {_verdict(path, error)}") from error
    except (RuntimeError, EOFError, ValueError, LookupError, AttributeError, TypeError) as error:
        raise ValueError(f"{path.name} is no readable checkpoint: {first_line(error)}") from error
    if isinstance(loaded, Mapping) and isinstance(loaded.get("model_state_dict"), Mapping):
        loaded = loaded["model_state_dict"]
    if not isinstance(loaded, Mapping) or not loaded or not all(isinstance(name, str) for name in loaded):
        raise ValueError(
            f"{path.name} holds no state dict: expected names and tensors, or a `model_state_dict` of them."
        )
    for name, tensor in loaded.items():
        if not isinstance(tensor, torch.Tensor) or tensor.layout != torch.strided:
            raise ValueError(f"{path.name}: {name!r} is no dense tensor.")
        # A stride of 0 lets a small file claim any size.
        if tensor.untyped_storage().nbytes() < tensor.numel() * tensor.element_size():
            raise ValueError(f"{path.name}: {name!r} claims shape {tuple(tensor.shape)}, more than the file holds.")
    return dict(loaded)


def _verdict(path: Path, error: pickle.UnpicklingError) -> str:
    """What a file is that torch's restricted unpickler did not read, and what to do."""
    remedy = "ask its author for a plain state dict."
    _, _, asked_for = str(error).partition("GLOBAL ")
    if asked_for:
        return (
            f"is refused: it asks for more than tensors ({asked_for.split()[0]}). A pickle can run any code; {remedy}"
        )
    if instead := stand_in(path):
        return instead
    with path.open("rb") as file:
        start = file.read(2)
    # torch stops at the first opcode it does not know, which in newer protocols comes before any name.
    if start == b"PK" or _is_pickle(path):
        return f"is refused: it is a pickle that cannot be read without running what it asks for; {remedy}"
    return "is no checkpoint: torch.save writes a zip archive or a pickle, and this is neither. Is it the right file?"


def _is_pickle(path: Path) -> bool:
    """Whether a file is a whole pickle, or one that reaches for code before it breaks off; nothing in it is run."""
    try:
        with path.open("rb") as file:
            return any(opcode.name == "STOP" or opcode.name in _REACHES_CODE for opcode, *_ in pickletools.genops(file))
    except ValueError:
        return False


def rename(state_dict: Mapping[str, torch.Tensor]) -> tuple[dict[str, torch.Tensor], list[str]]:
    """The reference's names to ours; also the names that belong to no part of the model."""
    renamed, unexpected = {}, []
    for name, tensor in state_dict.items():
        name_here = name.removeprefix("module.")  # left over from DataParallel
        for old, new in _WEIGHT_NORM.items():
            if name_here.endswith(old):
                name_here = name_here.removesuffix(old) + new
        prefix = next((part for part in _PARTS if name_here.startswith(part)), None)
        if prefix is None:
            unexpected.append(name)
        else:
            renamed[_PARTS[prefix] + name_here.removeprefix(prefix)] = tensor
    return renamed, unexpected


def _reference_name(name: str) -> str:
    """The reference's name of one of our tensors."""
    part, prefix = next((part, prefix) for part, prefix in _PARTS.items() if name.startswith(prefix))
    return part + name.removeprefix(prefix)


def _read_config(path: str | os.PathLike[str] | None, config_class: Any) -> Any:
    if path is None:
        return config_class()
    expected = f"expected the config.json of a model of type {config_class.model_type!r}"
    if config_class is ClapAudioConfig:
        expected += " or 'clap'"
    try:
        settings = json.loads(Path(path).read_text())
    except FileNotFoundError:
        raise FileNotFoundError(f"There is no config file {os.fspath(path)!r}.") from None
    except ValueError as error:
        raise ValueError(f"{os.fspath(path)} is not JSON ({error}); {expected}.") from error
    if config_class is ClapAudioConfig and isinstance(settings, dict) and "audio_config" in settings:
        settings = settings["audio_config"]  # of a whole CLAP
    if not isinstance(settings, dict):
        raise ValueError(f"{os.fspath(path)} holds no JSON object of settings; {expected}.")
    if settings.get("model_type", config_class.model_type) != config_class.model_type:
        raise ValueError(f"{os.fspath(path)} is of a model of type {settings['model_type']!r}; {expected}.")
    return config_class(**{key: value for key, value in settings.items() if key != "model_type"})


def convert_checkpoint(
    source: str | os.PathLike[str],
    out: str | os.PathLike[str],
    wavlm_config: str | os.PathLike[str] | None = None,
    clap_config: str | os.PathLike[str] | None = None,
) -> ConversionReport:
    """Convert a checkpoint of the reference.

    Args:
        source: `model.pth`: `{"model_state_dict": …}` or a bare state dict, with either spelling of weight norm.
        out: Folder to write the model, its extractor and its code to.
        wavlm_config: `config.json` of the WavLM backbone; default `microsoft/wavlm-base`'s sizes.
        clap_config: `config.json` of the CLAP backbone or its audio tower; default `laion/clap-htsat-unfused`'s.

    Returns:
        What was done.

    Raises:
        FileNotFoundError: A file does not exist.
        CheckpointMismatch: The checkpoint's tensors do not fit the model: missing, unexpected and misshapen ones are
            named. It is a `ValueError`.
        ValueError: The checkpoint is refused or unreadable, a config is of another model, or `out` is a file.
    """
    if Path(out).exists() and not Path(out).is_dir():
        raise ValueError(f"{os.fspath(out)!r} is a file; the model needs a folder of its own.")
    state_dict = read_state_dict(source)
    renamed, unexpected = rename(state_dict)
    config = MathRockConfig(
        wavlm_config=_read_config(wavlm_config, WavLMConfig).to_dict(),
        clap_audio_config=_read_config(clap_config, ClapAudioConfig).to_dict(),
    )
    model = MathRockForAudioClassification(config)
    expected = model.state_dict()
    notes = []
    left_out = [name for name in renamed if name not in expected and name.endswith(_RECOMPUTED)]
    if left_out:
        notes.append(f"{len(left_out)} buffers are recomputed from the config, not copied")
    if any(name.endswith(tuple(_WEIGHT_NORM)) for name in state_dict):
        notes.append("weight norm in torch's older spelling")
    unexpected += [_reference_name(name) for name in renamed if name not in expected and name not in left_out]
    missing = [_reference_name(name) for name in expected if name not in renamed and not name.endswith(_RECOMPUTED)]
    misshapen = [
        f"{_reference_name(name)} {tuple(renamed[name].shape)} for {tuple(tensor.shape)}"
        for name, tensor in expected.items()
        if name in renamed and renamed[name].shape != tensor.shape
    ]
    if not renamed.keys() & expected.keys():
        raise CheckpointMismatch(
            f"{Path(source).name} is no checkpoint of the reference: none of its {len(state_dict)} names is known",
            missing,
            unexpected,
            misshapen,
            "Is it the right file?",
        )
    if missing or unexpected or misshapen:
        raise CheckpointMismatch(
            f"{Path(source).name} does not fit the model",
            missing,
            unexpected,
            misshapen,
            "If its backbones are not the base ones, pass their configs (--wavlm-config, --clap-config).",
        )
    model.load_state_dict({name: renamed[name] for name in expected if name in renamed}, strict=False)
    model.eval().save_pretrained(out)
    MathRockFeatureExtractor().save_pretrained(out)
    return ConversionReport(
        source=Path(source).name,
        out=os.fspath(out),
        num_parameters=sum(parameter.numel() for parameter in model.parameters()),
        num_tensors=len(renamed) - len(left_out),
        notes=notes,
    )
