# SPDX-License-Identifier: Apache-2.0
"""What stands in a recipe by name: known keys, numbers where numbers belong, values set by a dotted path."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from hf_mathrock.training.yaml_values import read_yaml


def read_settings(path: str | Path, overrides: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """What a recipe's file says, with other values in place of some.

    Args:
        path: A YAML file.
        overrides: Values by dotted path.

    Raises:
        ValueError: It is no file of keys and values.
        FileNotFoundError: There is no such file.
    """
    try:
        settings = read_yaml(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise FileNotFoundError(f"There is no recipe {str(path)!r}; check the spelling and the folder.") from error
    except (IsADirectoryError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is no recipe: expected a YAML file.") from error
    except yaml.YAMLError as error:
        raise ValueError(f"{path} is not a YAML file: {' '.join(str(error).split())}") from error
    if not isinstance(settings, dict):
        raise ValueError(f"{path} is no recipe: expected keys such as `name`, `model` and `data`.")
    for key, value in (overrides or {}).items():
        set_value(settings, key, value)
    return settings


def check_sections(settings: dict[str, Any], sections: Sequence[str], path: str | Path) -> None:
    """See that sections map keys to values; those that are not there become empty ones."""
    for section in sections:
        settings[section] = {} if settings.get(section) is None else settings[section]
        if not isinstance(settings[section], dict):
            raise ValueError(f"`{section}` in {path} must map keys to values, got {settings[section]!r}.")


def check_training(training: dict[str, Any]) -> None:
    """See that something is trained, and take a bare `no`, which is YAML's false, for the strategy of that name."""
    for key in training:
        if key.endswith("_strategy") and training[key] is False:
            training[key] = "no"
    if training.get("num_train_epochs", 1) <= 0 and training.get("max_steps", -1) <= 0:
        raise ValueError(f"`training.num_train_epochs` is {training['num_train_epochs']}: nothing would be trained.")


def check_keys(given: Mapping[str, Any], known: list[str], where: str) -> None:
    """Refuses a key that is not known, and names the nearest."""
    for key in given:
        if key not in known:
            near = difflib.get_close_matches(str(key), known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known keys: {', '.join(sorted(known))}."
            raise ValueError(f"Unknown key {key!r} in {where}; {hint}")


def options_of(made: Callable[..., Any]) -> list[str]:
    """What a class is made with, or a function called with; a misspelt name would go unnoticed among its `kwargs`."""
    return [name for name in inspect.signature(made).parameters if name != "kwargs"]


def check_numbers(given: Mapping[str, Any], defaults: Mapping[str, Any], where: str) -> None:
    """Refuses anything else where the default is a number."""
    for key, value in given.items():
        default = defaults.get(key)
        if isinstance(default, (int, float)) and not isinstance(default, bool):
            wanted, named = (int, "a whole number") if key == "seed" else ((int, float), "a number")
            if not isinstance(value, wanted) or isinstance(value, bool):
                raise ValueError(f"`{where}{key}` is {value!r}; {named} is wanted.")


def set_value(settings: dict[str, Any], path: str, value: Any) -> None:
    """Sets the value at a dotted path, and makes the sections on the way."""
    *parents, last = path.split(".")
    for parent in parents:
        settings = settings.setdefault(parent, {})
        if not isinstance(settings, dict):
            raise ValueError(f"{path!r} cannot be set: {parent!r} is a single value in the recipe.")
    settings[last] = value
