# SPDX-License-Identifier: Apache-2.0
"""YAML as people write it: `1e-4` is a number, which YAML 1.1 takes for text."""

from __future__ import annotations

import re
from typing import Any

import yaml


class _Loader(yaml.SafeLoader):
    pass


# Without a dot, or without a sign in the exponent; everything else YAML 1.1 reads already.
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?[0-9]+(?:\.[0-9]*)?[eE][-+]?[0-9]+$"), list("-+0123456789")
)


def read_yaml(text: str) -> Any:
    """The value that a YAML text says.

    Raises:
        yaml.YAMLError: It is none.

    Example:
        >>> read_yaml("learning_rate: 1e-4")
        {'learning_rate': 0.0001}
    """
    return yaml.load(text, _Loader)
