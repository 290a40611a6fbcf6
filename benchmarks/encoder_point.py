# SPDX-License-Identifier: Apache-2.0
"""A process of its own for one point of the curves of `encoder_cost.py`: time and memory of embedding, as JSON.

python benchmarks/encoder_point.py forward CHECKPOINT WAY NUM_FRAMES    one spectrogram, the model alone
python benchmarks/encoder_point.py file CHECKPOINT LONG_INPUT AUDIO     an audio file, from start to embedding
"""

from __future__ import annotations

import ctypes
import json
import re
import statistics
import sys
import time
from pathlib import Path
from typing import Any
from unittest import mock

from peak_memory import peak_bytes

PATCHOUT_SHARE = 0.1
STRETCH_TOKENS = 944  # 118 columns of 8 patches, one minute
ENOUGH_SECONDS, MOST_RUNS = 6.0, 5
NUM_COMPARED = 16  # numbers of an embedding, by which ways that should agree are held to each other


def resident_bytes() -> int:
    """What this process holds in memory now."""
    found = re.search(r"VmRSS:\s*(\d+) kB", Path("/proc/self/status").read_text("ascii"))
    assert found is not None
    return int(found[1]) * 1024


def forget_peak() -> None:
    """Let the peak begin anew at what is held now, and hand back what was freed."""
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")


def whole_bias(positions: Any, slopes: Any) -> Any:
    """The bias of all pairs, made as in the public code of Myna with relative positions: distances along both axes,
    their sum, and a copy for every head with room for the class token, all of them held at once.

    There the slopes are missing; here they are multiplied in place, which needs no more memory.

    Args:
        positions: `(batch_size, num_tokens, 2)`.
        slopes: `(num_heads,)`.

    Returns:
        `(batch_size, num_heads, 1 + num_tokens, 1 + num_tokens)`.
    """
    import torch.nn.functional as F

    time, row = positions[..., 0].float(), positions[..., 1].float()
    columns = (time[:, :, None] - time[:, None]).abs()
    rows = (row[:, :, None] - row[:, None]).abs()
    distance = columns + rows
    bias = F.pad(distance.unsqueeze(1).expand(-1, len(slopes), -1, -1), (1, 0, 1, 0))
    return bias.mul_(-slopes.view(1, -1, 1, 1))


class WholeBias:
    """That bias in place of the model's own, which tells it block by block."""

    width = 1

    def __init__(self, bias: Any) -> None:
        self.bias = bias

    def block(self, first: int, last: int) -> Any:
        return self.bias[:, :, first:last]


def materialise() -> None:
    """From here on this process attends as the public code does, with the bias of all pairs."""
    from hf_mathrock.models import myna_attention, myna_encoder

    def places(encoder: Any, positions: Any, *_: Any) -> Any:
        return WholeBias(whole_bias(positions, encoder.slopes(positions.device))), None

    # The process ends with this model.
    mock.patch.object(myna_encoder.MynaEncoder, "_places", places).start()
    mock.patch.object(myna_attention, "queries_in_block", lambda width, num_queries, num_keys: num_queries).start()


def prepare(model: Any, way: str) -> dict[str, Any]:
    """Set a model up for a way to attend; returns the arguments of its `forward`."""
    model.config.max_tokens = STRETCH_TOKENS if way == "two_level" else 8192 if way == "default" else 1 << 40
    if way in ("eager", "flex_attention"):
        model.set_attn_implementation(way)
    if way == "materialised":
        materialise()
    if way == "two_level":
        return {"long_input": "two_level"}
    return {"keep_ratio": PATCHOUT_SHARE} if way == "patchout" else {}


def measure_forward(checkpoint: str, way: str, num_frames: int) -> dict[str, Any]:
    """Seconds and additional memory of embedding a spectrogram of so many frames."""
    import torch

    from hf_mathrock import MynaModel

    changes = {"position_embedding": "none"} if way == "none" else {}
    model = MynaModel.from_pretrained(checkpoint, **changes).eval()
    arguments = prepare(model, way)
    features = torch.randn(1, num_frames, model.config.num_mel_bins, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        model(features[:, : model.config.min_frames], **arguments)
        if way == "flex_attention":  # another length, so that all are compiled for
            model(features[:, : 2 * model.config.min_frames], **arguments)
        forget_peak()
        before = resident_bytes()
        runs: list[float] = []
        peak = 0
        while not runs or (sum(runs) < ENOUGH_SECONDS and len(runs) < MOST_RUNS):
            start = time.perf_counter()
            output = model(features, **arguments)
            runs.append(time.perf_counter() - start)
            peak = peak or peak_bytes()  # of the first run: later ones find its heap
    assert bool(output.pooler_output.isfinite().all())
    return {
        "seconds": statistics.median(runs),
        "min": min(runs),
        "max": max(runs),
        "num_runs": len(runs),
        "additional_bytes": peak - before,
        "peak_bytes": peak,
        "mode": output.mode,
        "embedding": output.pooler_output[0, :NUM_COMPARED].tolist(),
    }


def measure_file(checkpoint: str, long_input: str, audio: str) -> dict[str, Any]:
    """Seconds and the peak of all memory from loading to an embedding."""
    import torch

    from hf_mathrock import MynaFeatureExtractor, MynaModel

    start = time.perf_counter()
    model = MynaModel.from_pretrained(checkpoint).eval()
    extractor = MynaFeatureExtractor.from_pretrained(checkpoint)
    loaded, loaded_at = peak_bytes(), time.perf_counter()
    inputs = extractor(audio)
    heard_at = time.perf_counter()
    with torch.inference_mode():
        output = model(**inputs, long_input=long_input)
    done = time.perf_counter()
    assert bool(output.pooler_output.isfinite().all())
    return {
        "loading": loaded_at - start,
        "extractor": heard_at - loaded_at,
        "encoder": done - heard_at,
        "loaded_bytes": loaded,
        "peak_bytes": peak_bytes(),
        "num_frames": inputs["input_features"].shape[1],
        "mode": output.mode,
    }


def main(kind: str, checkpoint: str, way: str, what: str) -> None:
    result = measure_forward(checkpoint, way, int(what)) if kind == "forward" else measure_file(checkpoint, way, what)
    print(json.dumps(result))


if __name__ == "__main__":
    main(*sys.argv[1:])
