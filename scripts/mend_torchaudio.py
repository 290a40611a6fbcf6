# SPDX-License-Identifier: Apache-2.0
"""Makes torchaudio importable beside a CPU-only torch, by moving away the one file that stands in the way.

The Linux wheel of torchaudio 2.11 links CUDA libraries in its optional extension, and importing torchaudio loads
that extension if it is there. What this project uses of torchaudio is written in Python. Nothing is touched unless
the import fails for this very reason. Any other failure is told in one line and left alone.
"""

from __future__ import annotations

import importlib
import importlib.util
import re
import sys
from pathlib import Path


def mend() -> str | None:
    """Returns what was done, in one line, or `None` if there was nothing to do."""
    spec = importlib.util.find_spec("torchaudio")
    if spec is None or spec.origin is None:
        return None
    try:
        importlib.import_module("torchaudio")
        return None
    except Exception as error:  # an OSError of the loader, a RuntimeError of torchaudio's check of CUDA versions, ...
        extension = Path(spec.origin).parent / "lib" / "_torchaudio.abi3.so"
        # torch names the extension; the loader, whose error is the cause, names the library that it did not find.
        reason = str(error.__cause__ or error)
        if str(extension) not in str(error) or not re.match(r"lib\S*cu\S*\.so\S*: cannot open shared object", reason):
            return f"torchaudio cannot be imported, which only some tests need: {' '.join(str(error).split())}"
    disabled = extension.with_name(extension.name + ".disabled")
    try:
        extension.replace(disabled)
    except OSError as error:
        return f"torchaudio's extension needs CUDA, which this torch lacks, and cannot be moved away: {error}"
    return f"torchaudio's extension needs CUDA, which this torch lacks ({reason}): renamed it to {disabled.name}"


if __name__ == "__main__":
    message = mend()
    if message:
        print(f"setup: {message}", file=sys.stderr)
