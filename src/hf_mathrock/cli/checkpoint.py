# SPDX-License-Identifier: Apache-2.0
"""From what a user calls a checkpoint to its pipeline, and to the files that lie beside its weights."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from hf_mathrock.cli.terminal import UsageError, quieten_libraries
from hf_mathrock.library.tagging import describe


def resolve(model: str) -> str:
    """Folder or Hub name of a checkpoint; the name of an embedded one becomes its folder.

    Raises:
        UsageError: It looks like a folder, and there is none.
    """
    from hf_mathrock.zoo import EMBEDDED, embedded_checkpoint

    if model in EMBEDDED:
        return str(embedded_checkpoint(model))
    if not Path(model).exists() and re.match(r"[./~\\]|.*/.*/", model):
        # Neither `name` nor `org/name`: the Hub would answer with a remark about repository names.
        raise UsageError(f"there is no folder {model!r}; give a checkpoint folder or a Hub name (org/name)")
    return model


def load_pipeline(
    model: str | None, options: Mapping[str, Any], *, task: str = "mathrock-affect", debug: bool = False
) -> Any:
    """The pipeline of a task.

    Args:
        model: As the user gave it; `None`: the checkpoint inside the package.
        options: Passed to the pipeline; `device` among them is named in the error when it is not there.
        task: Its name.
        debug: Let the libraries speak.

    Raises:
        UsageError: The checkpoint or the device cannot be used.
    """
    quieten_libraries(debug)
    import hf_mathrock

    source = None if model is None else resolve(model)
    # transformers types its factory by the tasks it ships.
    pipeline: Callable[..., Any] = hf_mathrock.pipeline
    try:
        return pipeline(task, model=source, **options)
    except (ValueError, OSError) as error:
        said = str(error)
        if source is not None and not Path(source).exists() and source not in said:
            said = f"{source!r} is no folder here, and the Hub gives no model of that name ({describe(error)})"
        raise UsageError(said) from error
    except (AssertionError, RuntimeError) as error:
        if "device" in options:  # torch has several words for a device that is not there
            raise UsageError(f"--device {options['device']} cannot be used here: {describe(error)}") from error
        raise


def read_beside(model: str, name: str) -> Any:
    """A JSON file beside a checkpoint's weights, here or on the Hub; `None` where there is none.

    Args:
        model: As the user gave it.
        name: Such as `"calibration.json"`.

    Raises:
        UsageError: The file is no JSON object.
    """
    from transformers.utils import cached_file

    # The library's own look-up: the user's cache, mirror and offline mode hold for this file too.
    path = cached_file(
        resolve(model), name, _raise_exceptions_for_missing_entries=False, _raise_exceptions_for_connection_errors=False
    )
    if path is None:
        return None
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
    except ValueError as error:
        raise UsageError(f"{name} beside the weights of {model!r} is no JSON: {error}") from error
    if not isinstance(content, dict):
        raise UsageError(f"{name} beside the weights of {model!r} holds no JSON object; remove it or write it anew")
    return content
