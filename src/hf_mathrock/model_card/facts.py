# SPDX-License-Identifier: Apache-2.0
"""What only the publisher of a model knows: the `card` mapping of a recipe, or a YAML file of the same keys."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

# Key → what it holds. All may be absent; the card then says that nobody has said.
CARD_KEYS = {
    "summary": "text: what the model is, in a few sentences",
    "training_data": "text: the recordings it learned from, and how they may be used",
    "labels": "text: who or what gave the labels",
    "limits": "list of texts: where not to believe it",
    "authors": "list of names",
    "citation": "text: how to cite it",
    "licence": "identifier, e.g. apache-2.0",
    "licence_link": "address of the licence's text, for a licence that the Hub has no name for",
    "datasets": "list of Hub names (org/name) of the data it was trained on",
    "benchmarks": "for each set of results.json that is a dataset on the Hub: {dataset: org/name, task_id, metric}",
}
_LISTS = ("limits", "authors", "datasets")
_BENCHMARK_KEYS = ("dataset", "task_id", "metric")
_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")


def is_hub_name(text: Any) -> bool:
    """Whether a text has the form of a repository's name on the Hub, `org/name`."""
    return isinstance(text, str) and _HUB_NAME.fullmatch(text) is not None


def checked_facts(facts: Mapping[str, Any] | None, where: str = "`card`") -> dict[str, Any]:
    """The facts with single values as lists where lists are wanted, and empty ones left out.

    Args:
        facts: Mapping of `CARD_KEYS`; `None` counts as empty.
        where: What to call it in an error.

    Raises:
        ValueError: A key is unknown (the message names the nearest) or a value has the wrong form.
    """
    if not isinstance(facts or {}, Mapping):
        raise ValueError(f"{where} must map keys such as summary and limits to texts, got {type(facts).__name__}.")
    checked: dict[str, Any] = {}
    for key, value in (facts or {}).items():
        if key not in CARD_KEYS:
            near = difflib.get_close_matches(str(key), CARD_KEYS, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known keys: {', '.join(CARD_KEYS)}."
            raise ValueError(f"Unknown key {key!r} in {where}; {hint}")
        if value in (None, "", [], {}):
            continue
        if key == "benchmarks":
            checked[key] = _checked_benchmarks(value, where)
        elif key in _LISTS:
            checked[key] = [value] if isinstance(value, str) else value
            if not isinstance(checked[key], list) or not all(isinstance(item, str) for item in checked[key]):
                raise ValueError(f"{key!r} in {where} must be a list of texts, got {value!r}.")
        elif not isinstance(value, str):
            raise ValueError(f"{key!r} in {where} must be a text ({CARD_KEYS[key]}), got {value!r}.")
        else:
            checked[key] = value.strip()
    for name in checked.get("datasets", []):
        if not is_hub_name(name):
            raise ValueError(
                f"'datasets' in {where} holds {name!r}; the Hub wants names of datasets there (org/name). Describe "
                "data that is elsewhere under 'training_data'."
            )
    return checked


def _checked_benchmarks(value: Any, where: str) -> dict[str, dict[str, str]]:
    good = isinstance(value, Mapping) and all(
        isinstance(entry, Mapping) and is_hub_name(entry.get("dataset")) and set(entry) <= set(_BENCHMARK_KEYS)
        for entry in value.values()
    )
    if not good:
        raise ValueError(
            f"'benchmarks' in {where} must map names of sets to {{dataset: org/name, task_id: ..., metric: ...}}, "
            f"the last two optional; got {value!r}."
        )
    return {str(name): {key: str(text) for key, text in entry.items()} for name, entry in value.items()}


def read_facts(path: str | Path) -> dict[str, Any]:
    """The facts in a YAML file.

    Raises:
        ValueError: It is no YAML, or see `checked_facts`.
        OSError: It cannot be read.
    """
    import yaml

    try:
        facts = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise ValueError(f"{path} is not a YAML file: {' '.join(str(error).split())}") from error
    return checked_facts(facts, where=str(path))
