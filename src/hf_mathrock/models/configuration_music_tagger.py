# SPDX-License-Identifier: Apache-2.0
"""Configuration of the music taggers that are chains of stages: known architectures, hybrids, and what you edit."""

from __future__ import annotations

import copy
import inspect
import json
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

import torch
from torch import nn

from .configuration_features import (
    check_names,
    feature_shape,
    fill_feature,
    shortest_feature,
)
from .configuration_tagging import LONGEST_SECONDS, NormalisedTaggerConfig
from .configuration_values import check_value
from .tagger_encoder import TaggerEncoder
from .tagger_pooling import TemporalBackend
from .tagger_presets import PRESETS
from .tagger_stages import FROM_CONFIG, build_stages, fill_stage, options_of, plain, trace_stages

AUTO_MAP = {
    "AutoConfig": "configuration_music_tagger.MusicTaggerConfig",
    "AutoFeatureExtractor": "feature_extraction_music_tagging.MusicTaggingFeatureExtractor",
    "AutoModel": "modeling_music_tagger.MusicTaggerModel",
    "AutoModelForAudioClassification": "modeling_music_tagger.MusicTaggerForAudioClassification",
}
DEFAULT_ARCHITECTURE = "short_chunk_res"
# Taggers that somebody may look for here: their configuration, and how a recipe names them.
FAMILIES_OF_THEIR_OWN = {
    "musicnn": ("MusicnnConfig()", "model.model_type=musicnn"),
    "vgg": ("MusicnnConfig(variant='vgg')", "model.model_type=musicnn and model.variant=vgg"),
    "music_tagging_transformer": ("MusicTaggingTransformerConfig()", "model.model_type=music_tagging_transformer"),
}

COLLAPSES: dict[str, dict[str, Any]] = {"squeeze": {}, "max": {}, "mean": {}, "flatten_linear": {"size": 256}}
BACKENDS: dict[str, dict[str, Any]] = {
    "none": {},
    "max": {},
    "mean": {},
    "gru": {"hidden_size": 32, "num_layers": 2, "bidirectional": False, "dropout": 0.0},
    "encoder": {**options_of(TaggerEncoder), "num_layers": 2, "num_heads": 8, "intermediate_size": 1024},
    "temporal": options_of(TemporalBackend),
}
BACKEND_CLASSES: dict[str, Callable[..., nn.Module]] = {"encoder": TaggerEncoder, "temporal": TemporalBackend}
HEAD: dict[str, Any] = {"hidden": None, "batch_norm": True, "activation": "relu", "dropout": 0.5}
ACTIVATIONS: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "tanh": nn.Tanh, "gelu": nn.GELU}

_PARTS = ("feature", "collapse", "backend", "head")
_RESOLVED = ("sampling_rate", "input_samples", "feature_batch_norm", "batch_norm_eps", "stages", *_PARTS)
# A length that usual strides and pools divide, so that the ratio of lengths before and behind them is exact.
_DIVISIBLE = 2**8 * 3**10 * 5


class MusicTaggerConfig(NormalisedTaggerConfig):
    """What a music tagger is made of: feature, stages, collapse, back end, head.

    `architecture` names a set of defaults, which are filled in when the configuration is made. All of them are saved,
    and a saved configuration is read as it is: what a name stands for may change, a checkpoint does not. To change an
    architecture, give the fields that differ: dicts may name a few keys and keep the rest, `stages` is replaced as a
    whole, and the fields of a finished configuration may be edited in place (`config.stages[0]["channels"] = 64`).

    Args:
        architecture: "fcn", "short_chunk", "short_chunk_res", "harmonic", "sample", "sample_se", "crnn", "cnnsa",
            "conv1d_hybrid", "tcn_hybrid", "sincnet_hybrid" or "logmel_hybrid"; see `tagger_presets`.
        sampling_rate: Hz of the audio that the model hears.
        input_samples: Samples at that rate that it was trained on, the length of a window.
        feature: See `fill_feature`.
        feature_batch_norm: Whether the feature is normalised over each of its channels.
        stages: List of dicts with `block` (a name in `tagger_stages.BLOCKS`) and the block's options.
        collapse: What becomes of the bands that are left: `{"kind": "squeeze"}` (there is one), `"max"`, `"mean"`, or
            `"flatten_linear"`, a linear layer from channels and bands (channel by channel) to `size`.
        backend: What becomes of time: `{"kind": "none"}` (one step is left; audio of other lengths is refused),
            `"max"`, `"mean"`, `"gru"` (its last state; `hidden_size`, `num_layers`, `bidirectional`, `dropout`),
            `"encoder"` (a class token's state, see `TaggerEncoder`) or `"temporal"` (see `TemporalBackend`).
        head: `hidden` (size of a hidden layer, or `None`), `batch_norm` and `activation` ("relu", "tanh", "gelu") of
            that layer, `dropout` before the last one.
        batch_norm_eps: Of every batch norm.
        tasks: See `TaskConfig`, as are `thresholds`, `temperatures`, `focal_gamma` and `label_smoothing`.

    Raises:
        ValueError: A name is unknown (the nearest known one is told), or a value not allowed. Whether sizes fit
            together is found out when a model is built.
    """

    model_type = "music_tagger"
    code_files = AUTO_MAP

    architecture: str = DEFAULT_ARCHITECTURE
    sampling_rate: Any = None
    input_samples: Any = None
    feature_batch_norm: Any = None
    batch_norm_eps: Any = None
    stages: Any = None
    collapse: Any = None
    backend: Any = None
    head: Any = None

    def __post_init__(self, **kwargs: Any) -> None:
        if any(getattr(self, name) is None or _is_partial(name, getattr(self, name)) for name in _RESOLVED):
            self._fill_from_preset()
        for name in _PARTS:
            setattr(self, name, fill_part(name, getattr(self, name)))
        self._fill_stages()
        super().__post_init__(**kwargs)

    def check(self) -> None:
        super().check()
        for name in _PARTS:
            fill_part(name, getattr(self, name))
        self._fill_stages()

    def _fill_stages(self) -> None:
        if not isinstance(self.stages, list | tuple):
            raise ValueError(f"`stages` is {self.stages!r}; it must be a list of dicts.")
        self.stages = [fill_stage(stage, index, self.settled) for index, stage in enumerate(self.stages)]

    @classmethod
    def parts(cls) -> dict[str, set[str]]:
        backends = {key for keys in BACKENDS.values() for key in keys}
        return {**super().parts(), "head": set(HEAD) | {"head_hidden"}, "backend": backends}

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "architecture" and self.__dict__.get("architecture", value) != value:
            raise ValueError(
                f"This configuration was made as {self.architecture!r}, and `architecture` only says what a new one "
                f"starts from: make a new one, MusicTaggerConfig(architecture={value!r}), or change its fields."
            )
        super().__setattr__(name, value)

    def _fill_from_preset(self) -> None:
        if self.architecture in FAMILIES_OF_THEIR_OWN:
            config, recipe = FAMILIES_OF_THEIR_OWN[self.architecture]
            raise ValueError(
                f"{self.architecture!r} is no chain of stages but a family of its own: {config}, in a recipe {recipe}."
            )
        check_names([self.architecture], PRESETS, "`architecture`")
        preset = {"batch_norm_eps": 1e-5, "collapse": {"kind": "squeeze"}, **copy.deepcopy(PRESETS[self.architecture])}
        for name in _RESOLVED:
            given = getattr(self, name)
            if given is None:
                setattr(self, name, preset[name])
            elif name in _PARTS:
                setattr(self, name, merged_part(name, given, preset[name]))

    @classmethod
    def from_dict(cls, config_dict: dict[str, Any], **kwargs: Any) -> Any:
        """As the base class; dicts given in part are merged over the saved ones.

        Raises:
            ValueError: Another `architecture` is asked for than the saved one.
        """
        saved = config_dict.get("architecture", DEFAULT_ARCHITECTURE)
        if kwargs.get("architecture", saved) != saved:
            raise ValueError(
                f"This configuration was made as {saved!r}, and `architecture` only says what a new one starts from: "
                f"make a new one, MusicTaggerConfig(architecture={kwargs['architecture']!r}), or give the fields "
                "to be changed."
            )
        for name in _PARTS:
            if isinstance(kwargs.get(name), Mapping) and isinstance(config_dict.get(name), Mapping):
                kwargs[name] = merged_part(name, kwargs[name], config_dict[name])
        return super().from_dict(config_dict, **kwargs)

    @property
    def settled(self) -> dict[str, Any]:
        """Options of stages and back ends that follow from other fields."""
        return {name: getattr(self, name) for name in FROM_CONFIG}

    @property
    def accepts_any_length(self) -> bool:
        """Whether the back end takes any number of steps in time."""
        return self.backend["kind"] != "none"

    @property
    def min_samples(self) -> int:
        """The fewest samples that survive every stage; all of `input_samples` for a model of fixed length."""
        return self.input_samples if not self.accepts_any_length else _geometry(self._description())[0]

    @property
    def max_samples(self) -> int | None:
        """Ten minutes, or as far as the encoder's positions reach; `None` for a model of fixed length."""
        if not self.accepts_any_length:
            return None
        longest = LONGEST_SECONDS * self.sampling_rate
        if (positions := self.backend.get("num_positions")) is not None:
            longest = min(longest, (positions - 1) * self.samples_per_token)
        return max(longest, self.input_samples)

    @property
    def samples_per_token(self) -> int:
        """Samples between two steps in time behind the last stage."""
        return _geometry(self._description())[1]

    def _description(self) -> str:
        names = ("sampling_rate", "input_samples", "batch_norm_eps", "feature", "stages", "backend")
        return json.dumps({name: getattr(self, name) for name in names}, sort_keys=True)

    def to_dict(self) -> dict[str, Any]:
        return plain(super().to_dict())


def fill_part(name: str, part: Mapping[str, Any]) -> dict[str, Any]:
    """A complete, valid copy of `feature`, `collapse`, `backend` or `head`.

    Raises:
        ValueError: A key is unknown, or a value not allowed; the message names it.
    """
    if name == "feature":
        return fill_feature(part)
    if not isinstance(part, Mapping):
        raise ValueError(f"`{name}` is {part!r}; it must be a dict.")
    if name == "head":
        check_names(part, HEAD, "key of `head`")
        head = {**HEAD, **part}
        check_names([head["activation"]], ACTIVATIONS, "`head['activation']`")
        if head["hidden"] is not None and (type(head["hidden"]) is not int or head["hidden"] < 1):
            raise ValueError(f"`head['hidden']` is {head['hidden']!r}; it must be a positive whole number or None.")
        check_value("dropout", head["dropout"], 0.5, "`head['dropout']`")
        check_value("batch_norm", head["batch_norm"], True, "`head['batch_norm']`")
        return plain(head)
    kinds = COLLAPSES if name == "collapse" else BACKENDS
    if "kind" not in part:
        raise ValueError(f"`{name}` lacks 'kind'; known are {', '.join(map(repr, kinds))}.")
    kind = part["kind"]
    check_names([kind], kinds, f"`{name}['kind']`")
    check_names(part, ["kind", *kinds[kind]], f"key of `{name}` of kind {kind!r}")
    filled = {"kind": kind, **kinds[kind], **part}
    if missing := [key for key, value in filled.items() if value is inspect.Parameter.empty]:
        raise ValueError(f"`{name}` of kind {kind!r} lacks {', '.join(map(repr, missing))}.")
    for key, value in filled.items():
        if key != "kind":
            check_value(key, value, kinds[kind][key], f"`{name}[{key!r}]`")
    return plain(filled)


def merged_part(name: str, given: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Keys given over those that were there; of another kind nothing is kept."""
    if not isinstance(given, Mapping):
        raise ValueError(f"`{name}` is {given!r}; it must be a dict, of the keys that differ from the architecture's.")
    keep = given.get("kind", over.get("kind")) == over.get("kind")
    return {**(over if keep else {}), **given}


def _is_partial(name: str, value: Any) -> bool:
    """Whether a dict lacks keys, so that the architecture has to be asked."""
    if name not in _PARTS or not isinstance(value, Mapping):
        return False
    if name == "head":
        return bool(set(HEAD) - set(value))
    if "kind" not in value:
        return True
    return bool(set(fill_part(name, {"kind": value["kind"]})) - set(value))


@lru_cache(maxsize=64)
def _geometry(description: str) -> tuple[int, int]:
    """Fewest samples that reach the embedding, and samples between two steps in time behind the last stage."""
    config = json.loads(description)
    feature, stages = config["feature"], config["stages"]
    hop = 1 if feature["kind"] == "raw" else feature["hop_length"]
    *sizes, trained = feature_shape(feature, config["sampling_rate"], config["input_samples"])
    with torch.device("meta"):
        blocks = build_stages(stages, sizes[0], config).eval()
        temporal = config["backend"]["kind"] == "temporal"
        steps_needed = 1
        if temporal:
            options = {name: value for name, value in config["backend"].items() if name != "kind"}
            steps_needed = TemporalBackend(1, **options).minimum_frames

        def steps(length: int) -> int:
            try:
                return trace_stages(blocks, stages, (*sizes, length))[-1][-1]
            except ValueError:
                return 0

        too_few, enough = 0, trained
        if steps(trained) < steps_needed:
            trace_stages(blocks, stages, (*sizes, trained))
            return config["input_samples"], hop
        while enough - too_few > 1:
            middle = (too_few + enough) // 2
            too_few, enough = (too_few, middle) if steps(middle) >= steps_needed else (middle, enough)
        per_step = hop * _DIVISIBLE / (steps(trained + _DIVISIBLE) - steps(trained))
    shortest = enough if feature["kind"] == "raw" else (enough - 1) * hop
    return max(shortest, shortest_feature(feature)), round(per_step)
