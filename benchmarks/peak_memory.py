# SPDX-License-Identifier: Apache-2.0
"""A process of its own: load a checkpoint's pipeline, tag one file, print the peak of resident memory as JSON."""

from __future__ import annotations

import json
import re
import resource
import sys
import time
from pathlib import Path


def peak_bytes() -> int:
    """The most memory this process has had resident so far."""
    status = Path("/proc/self/status")
    if status.exists():
        # Linux lets `ru_maxrss` begin at what the parent held when it started this process; this counts our own.
        found = re.search(r"VmHWM:\s*(\d+) kB", status.read_text("ascii"))
        assert found is not None
        return int(found[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def main(checkpoint: str, audio: str) -> None:
    from hf_mathrock import pipeline

    pipe = pipeline("mathrock-affect", model=checkpoint)
    loaded = peak_bytes()
    start = time.perf_counter()
    result = pipe(audio)
    seconds = time.perf_counter() - start
    print(
        json.dumps(
            {
                "loaded_bytes": loaded,
                "peak_bytes": peak_bytes(),
                "seconds": seconds,
                "decoded_seconds": result["duration"],
            }
        )
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
