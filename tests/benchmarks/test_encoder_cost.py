# SPDX-License-Identifier: Apache-2.0
"""The cost of whole tracks is measured on comparable ways, and what is not measured says why."""

from pathlib import Path

import numpy as np
import pytest
import torch

from numpy_myna import HALVING, score_bias
from tiny_myna import SETTINGS, tiny_myna

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(autouse=True)
def benchmark_modules(monkeypatch):
    """As `python benchmarks/run.py` finds them."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))


def simulated(kind, checkpoint, way, what):
    """A point that costs what the specification says, 1 ms and, of the bias of all pairs, 10 kB a squared second."""
    if kind == "file":
        return {
            "loading": 1.0,
            "extractor": 2.0,
            "encoder": 3.0,
            "loaded_bytes": 4e8,
            "peak_bytes": 7e8,
            "num_frames": 10,
            "mode": "whole" if way == "patchout" else way,
        }
    seconds = int(what) / 31.25
    all_pairs = way in ("materialised", "eager")
    return {
        "seconds": 1e-3 * seconds if way in ("default", "two_level") else 1e-3 * seconds**2,
        "min": 0.0,
        "max": 0.0,
        "num_runs": 1,
        "additional_bytes": 1e4 * seconds**2 if all_pairs else 1e6 * seconds,
        "peak_bytes": 1e9,
        "mode": "whole",
        "embedding": [1.0, 2.0 if way == "whole" else 2.25],
    }


def test_the_bias_of_all_pairs_is_that_of_the_model(monkeypatch):
    import encoder_point

    from hf_mathrock.models import myna_attention, myna_encoder

    positions = np.random.default_rng(0).integers(0, 8, (11, 2))
    bias = encoder_point.whole_bias(torch.from_numpy(positions)[None], torch.tensor(HALVING[3]))
    np.testing.assert_allclose(bias[0].numpy(), score_bias(positions, HALVING[3]), atol=1e-6)

    model, features = tiny_myna(), torch.randn(1, 320, 128, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = model(features).pooler_output
        # Restored when the test ends, which the benchmark's process need not do.
        monkeypatch.setattr(myna_encoder.MynaEncoder, "_places", myna_encoder.MynaEncoder._places)
        monkeypatch.setattr(myna_attention, "queries_in_block", myna_attention.queries_in_block)
        built = []
        monkeypatch.setattr(
            encoder_point,
            "WholeBias",
            lambda bias, original=encoder_point.WholeBias: built.append(bias) or original(bias),
        )
        encoder_point.materialise()
        given = model(features).pooler_output
    torch.testing.assert_close(given, expected, atol=1e-6, rtol=0)
    assert [bias.shape for bias in built] == [(1, 3, 161, 161)]


@pytest.mark.parametrize("way", ["whole", "eager", "patchout", "two_level", "default", "none"])
def test_every_way_is_the_one_it_is_called(way, tmp_path):
    from encoder_cost import save_encoder
    from encoder_point import measure_forward

    facts = save_encoder(tmp_path, SETTINGS)
    point = measure_forward(str(tmp_path), way, 2000)
    assert point["mode"] == {"patchout": "patchout", "two_level": "two_level"}.get(way, "whole")
    assert 0 < point["min"] <= point["seconds"] <= point["max"]
    assert facts["tokens_per_second"] == 15.625 and facts["max_tokens"] == 8192


def test_the_bias_of_all_pairs_is_held_in_the_process_that_measures_it(tmp_path):
    from encoder_cost import run_point, save_encoder

    save_encoder(tmp_path, SETTINGS)
    point = run_point("forward", str(tmp_path), "materialised", "3750")
    assert point["mode"] == "whole" and point["additional_bytes"] > 3 * 1873**2 * 4  # 1873 states, three heads


def test_what_would_take_too_long_is_left_out_and_says_so(tmp_path, monkeypatch):
    import encoder_cost
    from encoder_cost import LENGTHS, draw, measure, ratios, render
    from material import write_song

    monkeypatch.setattr(encoder_cost, "write_song", lambda path, seconds: write_song(path, 4.0))
    result = measure(tmp_path, quick=False, fields=SETTINGS, run=simulated)
    points = result["points"]
    assert set(points["whole"]) == set(points["default"]) == set(LENGTHS)
    # 3.6 hours for an hour, and 5.8 GB at four minutes.
    assert points["whole"]["60 min"]["left_out"] == "about 216 min"
    assert "seconds" in points["materialised"]["4 min"] and "GB" in points["materialised"]["60 min"]["left_out"]
    assert points["default"]["4 min"] == {"left_out": "whole"} and points["default"]["60 min"]["num_tokens"] == 56_250
    assert result["ratios"]["4 min"]["memory"] == pytest.approx(2.4, rel=0.01)
    # The same without positions as in blocks.
    assert result["ratios"]["4 min"]["bytes_of_blocks"] == 0
    assert result["ratios"]["4 min"]["bytes_of_all_pairs"] == pytest.approx(1e4 * 240**2 - 1e6 * 240, rel=0.01)
    assert ratios(points) == result["ratios"] and result["difference"] == 0.25
    section = render(result)
    assert "| 4 min | 3,750 |" in section and "| 1 hour, FLAC |" in section and "*about 216 min*" in section
    draw(result, tmp_path)
    assert (tmp_path / "encoder_cost.png").stat().st_size > 10_000


def test_a_file_goes_from_disk_to_its_embedding_in_a_process_of_its_own(tmp_path):
    from encoder_cost import run_point, save_encoder
    from material import write_song

    save_encoder(tmp_path / "encoder", SETTINGS)
    song = write_song(tmp_path / "song.flac", 4.0)
    result = run_point("file", str(tmp_path / "encoder"), "two_level", str(song))
    assert result["mode"] == "whole" and result["num_frames"] == 126
    assert result["peak_bytes"] > result["loaded_bytes"] > 1e8
