# SPDX-License-Identifier: Apache-2.0
"""How much of a model is trained: all of it, its heads over frozen backbones, or low-rank adapters inside them."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any, Literal, cast

import torch
from torch import nn

from hf_mathrock.data.embeddings import BACKBONES

Tuning = Literal["full", "heads", "lora"]

# The last parts of the names of the layers that take an adapter, in WavLM's encoder and in CLAP's Swin blocks. WavLM's
# `gru_rel_pos_linear` is none of them: our attention folds its weights and would pass an adapter by.
_ATTENTION = ("q_proj", "k_proj", "v_proj", "out_proj", "query", "key", "value", "attention.output.dense")


def prepare_for_tuning(model: Any, args: Any) -> Any:
    """Freeze what is not trained, and put adapters where they are.

    "heads": the backbones are frozen; projections, fusion and heads learn. "lora": the backbones' weights are frozen
    and low-rank adapters learn in their attention; projections, fusion and heads learn whole. "full": nothing changes.

    Of a tagger, "heads" freezes all but the head, and "lora" is refused.

    Args:
        model: A classifier of any family. It is changed in place.
        args: `MathRockTrainingArguments`; `tuning`, `lora_rank`, `lora_alpha`, `lora_dropout` and `seed` are read.

    Returns:
        The model; for "lora" a `peft.PeftModel` around it. Adapters begin without any effect, with weights that depend
        on `args.seed` alone.

    Raises:
        ImportError: LoRA, and peft is not installed.
        ValueError: The tuning contradicts another argument.
    """
    if not has_backbones(model):
        return _prepared_tagger(model, args)
    if args.tuning == "heads":
        if args.augment != "none":
            raise ValueError(
                f"`augment` is {args.augment!r} with tuning='heads', which embeds each window once and never hears it "
                "again; use augment='none', or tuning='lora' or 'full'."
            )
        _freeze_backbones(model)
    if args.tuning == "lora" and not is_adapted(model):
        # Reentrant checkpoints pass no gradient through a layer whose inputs need none, as behind a frozen front end.
        if (getattr(args, "gradient_checkpointing_kwargs", None) or {}).get("use_reentrant"):
            raise ValueError(
                "`use_reentrant` is true with tuning='lora': the adapters would get no gradient. Leave it out."
            )
        return add_adapters(model, args.lora_rank, args.lora_alpha, args.lora_dropout, seed=args.seed)
    return model


def has_backbones(model: Any) -> bool:
    """Whether a model, adapted or not, is built on the two backbones of MathRock; taggers are made of one piece."""
    return model.config.model_type == "mathrock"


def _prepared_tagger(model: Any, args: Any) -> Any:
    if args.tuning == "lora":
        raise ValueError(
            f"`tuning` is 'lora', which changes the backbones of MathRock; a {model.config.model_type} has none. Use "
            "'heads' to train its last layers alone, or 'full'."
        )
    if args.tuning == "heads":
        model.base_model.requires_grad_(False)
    return model


def _freeze_backbones(model: Any) -> None:
    for name in BACKBONES:
        getattr(model.mathrock, name).requires_grad_(False)
    # Otherwise WavLM makes its convolutions pass a gradient that nobody asks for.
    model.mathrock.wavlm.freeze_feature_encoder()


def add_adapters(
    model: Any,
    rank: int = 8,
    alpha: float = 16,
    dropout: float = 0.0,
    *,
    seed: int = 0,
) -> Any:
    """A model whose backbones learn through low-rank adapters of queries, keys, values and outputs of their attention.

    Args:
        model: A `MathRockForAudioClassification`; it is changed in place.
        rank: Of the adapters.
        alpha: Their output counts `alpha / rank`.
        dropout: Before the adapters, in [0, 1).
        seed: Of the adapters' first weights.

    Returns:
        A `peft.PeftModel`.

    Raises:
        ImportError: peft is not installed.
        ValueError: `rank` or `dropout` is out of range.

    Source: Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", https://arxiv.org/abs/2106.09685.
    """
    if rank < 1 or not 0 <= dropout < 1:
        raise ValueError(f"`lora_rank` is {rank} (at least 1) and `lora_dropout` {dropout} (in [0, 1)).")
    try:
        from peft import LoraConfig, get_peft_model
    except ImportError as error:
        raise ImportError('LoRA needs peft: pip install "hf-mathrock[train]"') from error

    model.mathrock.wavlm.freeze_feature_encoder()
    config = LoraConfig(
        r=rank,
        lora_alpha=cast("int", alpha),  # peft divides by the rank, and takes fractions too
        lora_dropout=dropout,
        target_modules=list(_adapted_names(model)),
        # Heads one by one: peft takes no dictionary of modules.
        modules_to_save=[
            "mathrock.wavlm_projection",
            "mathrock.clap_audio_projection",
            "mathrock.fusion",
            *(f"heads.{name}" for name in model.heads),
        ],
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        adapted = get_peft_model(model, config)
    # Where the model came from is a path of this machine, or a name that saving would ask the Hub about.
    adapted.peft_config["default"].base_model_name_or_path = None
    return adapted


def _adapted_names(model: Any) -> Iterator[str]:
    for backbone in BACKBONES:
        for name, module in getattr(model.mathrock, backbone).named_modules():
            if isinstance(module, nn.Linear) and any(name.endswith(f".{ending}") for ending in _ATTENTION):
                yield f"mathrock.{backbone}.{name}"


def is_adapted(model: Any) -> bool:
    """Whether a model is wrapped by peft."""
    return hasattr(model, "merge_and_unload")


def merged_model(model: Any) -> Any:
    """The plain model that computes what an adapted one does; adapters are added into the weights of a copy.

    Args:
        model: What `prepare_for_tuning` returned, trained or not. It stays as it is.

    Returns:
        A `MathRockForAudioClassification` without a trace of peft; a model without adapters is returned itself.
    """
    if not is_adapted(model):
        return model
    merged = copy.deepcopy(model).merge_and_unload()
    return merged.requires_grad_(True)


def keep_frozen_in_evaluation(module: nn.Module) -> None:
    """Put every part without a trainable parameter into evaluation mode, after `train()` has put it out of it.

    A frozen backbone must not drop units out, and its batch norm must neither see the batch nor count it: running means
    are no parameters, so no checkpoint of adapters would hold them.
    """
    parameters = list(module.parameters())
    if parameters and not any(parameter.requires_grad for parameter in parameters):
        module.eval()
        return
    for child in module.children():
        keep_frozen_in_evaluation(child)
