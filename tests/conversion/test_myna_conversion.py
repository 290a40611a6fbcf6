# SPDX-License-Identifier: Apache-2.0
"""State dicts in the layout of the public Myna code become models that compute what that code computes.

`published` is that computation, written with plain functions of torch from its description; nothing in it is ours.
"""

import json
import math
import re

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import nn

from hf_mathrock.cli.main import main
from hf_mathrock.conversion.myna import LICENCE_FILE, convert_myna
from hf_mathrock.conversion.report import CheckpointMismatch
from hf_mathrock.models.configuration_myna import MynaConfig
from hf_mathrock.models.feature_extraction_myna import MynaFeatureExtractor
from hf_mathrock.models.modeling_myna import MynaForPreTraining, MynaModel

WIDTH, DEPTH, INNER = 128, 2, 160
SQUARE, VERTICAL = (16, 16), (128, 2)


def state_dict(*sizes, head=50, seed=0, **more):
    """Random weights under the public names, with norms and biases that an exchange would show."""
    generator = torch.Generator().manual_seed(seed)

    def drawn(*shape, mean=0.0, sd=1.0):
        return mean + sd * torch.randn(*shape, generator=generator)

    def norm(name, width):
        return {f"{name}.weight": drawn(width, mean=1.0, sd=0.3), f"{name}.bias": drawn(width, sd=0.2)}

    def linear(name, inputs, outputs):
        return {f"{name}.weight": drawn(outputs, inputs, sd=inputs**-0.5), f"{name}.bias": drawn(outputs, sd=0.2)}

    tensors = {}
    for name, (bins, frames) in zip(("to_patch_embedding", "to_patch_embedding_b"), sizes, strict=False):
        values = bins * frames
        tensors |= norm(f"{name}.1", values) | linear(f"{name}.2", values, WIDTH) | norm(f"{name}.3", WIDTH)
    tensors |= norm("transformer.norm", WIDTH)
    for layer in range(DEPTH):
        attention, feed_forward = (f"transformer.layers.{layer}.{part}" for part in (0, 1))
        tensors |= norm(f"{attention}.norm", WIDTH)
        tensors[f"{attention}.to_qkv.weight"] = drawn(3 * WIDTH, WIDTH, sd=2 * WIDTH**-0.5)
        tensors[f"{attention}.to_out.weight"] = drawn(WIDTH, WIDTH, sd=WIDTH**-0.5)
        tensors |= norm(f"{feed_forward}.net.0", WIDTH)
        tensors |= linear(f"{feed_forward}.net.1", WIDTH, INNER) | linear(f"{feed_forward}.net.3", INNER, WIDTH)
    if head:
        tensors |= linear("linear_head", WIDTH, head)
    return tensors | more


def table(num_rows, num_columns, width):
    """Sines and cosines of column and row, a token at a time."""
    places = []
    for row in range(num_rows):
        for column in range(num_columns):
            omegas = [10_000 ** (-i / (width // 4 - 1)) for i in range(width // 4)]
            of_column, of_row = ([place * omega for omega in omegas] for place in (column, row))
            turned = [*map(math.sin, of_column), *map(math.cos, of_column)]
            places.append(turned + [*map(math.sin, of_row), *map(math.cos, of_row)])
    return torch.tensor(places, dtype=torch.float64).float()


def published(tensors, spectrogram, size, embedding="to_patch_embedding", added="table"):
    """The embedding of one spectrogram, `(128, frames)` as there, before `linear_head`."""

    def norm(x, name):
        return F.layer_norm(x, x.shape[-1:], tensors[f"{name}.weight"], tensors[f"{name}.bias"], 1e-5)

    def linear(x, name):
        return x @ tensors[f"{name}.weight"].T + tensors[f"{name}.bias"]

    bins, frames = size
    rows, columns = 128 // bins, spectrogram.shape[1] // frames
    patches = [
        spectrogram[row * bins : (row + 1) * bins, column * frames : (column + 1) * frames].flatten()
        for row in range(rows)
        for column in range(columns)
    ]
    x = norm(linear(norm(torch.stack(patches), f"{embedding}.1"), f"{embedding}.2"), f"{embedding}.3")
    if added == "table":
        x = x + table(rows, columns, x.shape[1])
    elif added == "rows":
        x = x + tensors["y_pos_embedding"].repeat_interleave(columns, dim=0)
    if "cls_token" in tensors:
        x = torch.cat([tensors["cls_token"][0], x])
    for layer in range(DEPTH):
        attention, feed_forward = (f"transformer.layers.{layer}.{part}" for part in (0, 1))
        query, key, value = (norm(x, f"{attention}.norm") @ tensors[f"{attention}.to_qkv.weight"].T).chunk(3, dim=-1)
        heads = []
        for first in range(0, WIDTH, 64):
            part = slice(first, first + 64)
            heads.append(torch.softmax(query[:, part] @ key[:, part].T / 8, dim=-1) @ value[:, part])
        x = x + torch.cat(heads, dim=-1) @ tensors[f"{attention}.to_out.weight"].T
        hidden = linear(norm(x, f"{feed_forward}.net.0"), f"{feed_forward}.net.1")
        hidden = 0.5 * hidden * (1 + torch.erf(hidden / math.sqrt(2)))
        x = x + linear(hidden, f"{feed_forward}.net.3")
    x = norm(x, "transformer.norm")
    return x[0] if "cls_token" in tensors else x.mean(dim=0)


def spectrograms(num_frames=96, num=2):
    """Power as it comes: many orders of magnitude."""
    generator = torch.Generator().manual_seed(1)
    return torch.exp(3 * torch.randn(num, 128, num_frames, generator=generator))


def ours(folder, power, model_class=MynaModel, **options):
    model, info = model_class.from_pretrained(folder, output_loading_info=True)
    assert not any(info[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    with torch.no_grad():
        return model.eval()(power.transpose(1, 2), **options)


def saved(tensors, path):
    save_file(tensors, path) if path.suffix == ".safetensors" else torch.save(tensors, path)
    return path


@pytest.mark.parametrize(("name", "size"), [("myna-base", SQUARE), ("myna-vertical", VERTICAL)])
def test_base_and_vertical_compute_what_the_public_code_computes(name, size, tmp_path):
    tensors = state_dict(size)
    report = convert_myna(saved(tensors, tmp_path / f"{name}.safetensors"), tmp_path / "out")
    power = spectrograms()
    output = ours(tmp_path / "out", power)
    assert output.mode == "whole" and output.pooler_output.shape == (2, WIDTH)
    for row, spectrogram in enumerate(power):
        torch.testing.assert_close(
            output.pooler_output[row], published(tensors, spectrogram, size), atol=1e-5, rtol=1e-5
        )
    assert report.num_tensors == len(tensors) - 2 and any("linear_head is left out" in note for note in report.notes)


def test_a_hybrid_gives_the_squares_embedding_and_then_the_strips(tmp_path):
    tensors = state_dict(SQUARE, VERTICAL)
    convert_myna(saved(tensors, tmp_path / "weights.pt"), tmp_path / "out")
    power = spectrograms()
    embeddings = ours(tmp_path / "out", power).pooler_output
    for row, spectrogram in enumerate(power):
        halves = [
            published(tensors, spectrogram, SQUARE),
            published(tensors, spectrogram, VERTICAL, "to_patch_embedding_b"),
        ]
        torch.testing.assert_close(embeddings[row], torch.cat(halves), atol=1e-5, rtol=1e-5)


def test_a_track_is_the_mean_of_its_pieces_of_96_frames(tmp_path):
    tensors = state_dict(SQUARE)
    convert_myna(saved(tensors, tmp_path / "base.bin"), tmp_path / "out")
    power = spectrograms(5 * 96, num=1)
    output = ours(tmp_path / "out", power)
    assert output.mode == "two_level"
    pieces = [published(tensors, piece, SQUARE) for piece in power[0].split(96, dim=1)]
    torch.testing.assert_close(output.pooler_output[0], torch.stack(pieces).mean(dim=0), atol=1e-5, rtol=1e-5)


def test_the_extractor_gives_raw_power_of_the_front_end(tmp_path):
    convert_myna(saved(state_dict(SQUARE), tmp_path / "base.pt"), tmp_path / "out")
    extractor = MynaFeatureExtractor.from_pretrained(tmp_path / "out")
    time = np.arange(50_000) / 16_000
    features = extractor((0.5 * np.sin(2 * np.pi * 1000 * time)).astype(np.float32), sampling_rate=16_000)
    values = features["input_features"][0]
    assert values.shape == (98, 128) and values.min() >= 0  # 50 000 samples, of which Myna takes 96 frames
    # The Hann window's transform of a tone of amplitude a is a * 2048 / 4 high; a band of area one takes some of it.
    assert 10 < values[48].max() < (0.5 * 512) ** 2
    assert (extractor.sampling_rate, extractor.feature["hop_length"], extractor.feature["n_fft"]) == (16_000, 512, 2048)


@pytest.mark.parametrize("prefix", ["module.", "model.", "model.module."])
@pytest.mark.parametrize("ending", ["safetensors", "bin", "pt", "pth"])
def test_every_kind_of_file_and_prefix_gives_the_same_weights(prefix, ending, tmp_path):
    tensors = state_dict(SQUARE, head=0)
    convert_myna(saved(tensors, tmp_path / "base.pt"), tmp_path / "plain")
    prefixed = {prefix + name: tensor for name, tensor in tensors.items()}
    report = convert_myna(saved(prefixed, tmp_path / f"base-again.{ending}"), tmp_path / "out")
    plain, again = (MynaModel.from_pretrained(tmp_path / name).state_dict() for name in ("plain", "out"))
    assert plain.keys() == again.keys() and all(torch.equal(plain[name], again[name]) for name in plain)
    assert any(repr(prefix) in note for note in report.notes)


def test_a_wrapped_state_dict_in_half_precision_is_read(tmp_path):
    tensors = {name: tensor.half() for name, tensor in state_dict(SQUARE).items()}
    torch.save({"model_state_dict": tensors}, tmp_path / "base.pt")
    convert_myna(tmp_path / "base.pt", tmp_path / "out")
    qkv = MynaModel.from_pretrained(tmp_path / "out").encoder.layers[1].attention.qkv.weight
    assert qkv.dtype == torch.float32
    assert torch.equal(qkv, tensors["transformer.layers.1.0.to_qkv.weight"].float())


def test_the_head_can_be_kept_for_training_on(tmp_path):
    tensors = state_dict(SQUARE, head=32)
    report = convert_myna(saved(tensors, tmp_path / "base.pt"), tmp_path / "out", keep_head=True)
    power = spectrograms()
    output = ours(tmp_path / "out", power, MynaForPreTraining)
    embedding = published(tensors, power[0], SQUARE)
    projected = embedding @ tensors["linear_head.weight"].T + tensors["linear_head.bias"]
    torch.testing.assert_close(output.projections[0], projected / projected.norm(), atol=1e-5, rtol=1e-5)
    assert report.num_tensors == len(tensors)


def test_without_a_head_or_with_that_of_a_hybrid_nothing_can_be_kept(tmp_path):
    with pytest.raises(ValueError, match=r"no single linear layer 'linear_head'.*without --keep-head"):
        convert_myna(saved(state_dict(SQUARE, head=0), tmp_path / "base.pt"), tmp_path / "out", keep_head=True)
    with pytest.raises(ValueError, match="is a hybrid"):
        convert_myna(saved(state_dict(SQUARE, VERTICAL), tmp_path / "x.pt"), tmp_path / "out", keep_head=True)
    assert not (tmp_path / "out").exists()


# What the patches are: the tensors of 16 x 16 and 128 x 2 have equal shapes.


def test_patches_that_nothing_tells_are_asked_for(tmp_path):
    source = saved(state_dict(SQUARE), tmp_path / "weights.safetensors")
    with pytest.raises(ValueError, match="--patch-sizes 16x16 .*--patch-sizes 128x2"):
        convert_myna(source, tmp_path / "out")
    convert_myna(source, tmp_path / "out", patch_sizes=[VERTICAL])
    assert MynaModel.from_pretrained(tmp_path / "out").config.patch_sizes == [[128, 2]]


@pytest.mark.parametrize(("stated", "expected"), [([128, 2], [128, 2]), (16, [16, 16])])
def test_the_config_beside_the_weights_tells_the_patches(stated, expected, tmp_path):
    folder = tmp_path / "fetched"
    folder.mkdir()
    saved(state_dict(SQUARE), folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps({"patch_size": stated, "spec_size": [128, 96], "heads": 4}))
    report = convert_myna(folder, tmp_path / "out")
    config = MynaModel.from_pretrained(tmp_path / "out").config
    assert (config.patch_sizes, config.num_attention_heads) == ([expected], 4)
    assert any("config.json beside it says" in note for note in report.notes)


def test_the_folders_name_tells_the_patches(tmp_path):
    folder = tmp_path / "myna-vertical"
    folder.mkdir()
    saved(state_dict(VERTICAL), folder / "model.safetensors")
    convert_myna(folder, tmp_path / "out")
    assert MynaModel.from_pretrained(tmp_path / "out").config.patch_sizes == [[128, 2]]


@pytest.mark.parametrize(
    ("sizes", "said"),
    [([(16, 8)], "hold 256 values; 16 x 8 are 128"), ([SQUARE, VERTICAL], "one patch embedding; 2 patch sizes")],
)
def test_patches_that_do_not_fit_are_refused(sizes, said, tmp_path):
    with pytest.raises(ValueError, match=said):
        convert_myna(saved(state_dict(SQUARE), tmp_path / "base.pt"), tmp_path / "out", patch_sizes=sizes)


# The version with relative positions.


def relative(**more):
    generator = torch.Generator().manual_seed(5)
    token = torch.randn(1, 1, WIDTH, generator=generator)
    return state_dict(SQUARE, head=128, cls_token=token, **more)


def test_a_class_token_hears_without_positions_as_in_the_published_evaluations(tmp_path):
    tensors = relative()
    tensors["transformer.alibi_2d.slopes"] = -torch.tensor([0.25, 0.0625])
    report = convert_myna(saved(tensors, tmp_path / "1d_alibi.pt"), tmp_path / "out")
    power = spectrograms(160)
    output = ours(tmp_path / "out", power)
    expected = torch.stack([published(tensors, spectrogram, SQUARE, added=None) for spectrogram in power])
    torch.testing.assert_close(output.pooler_output, expected, atol=1e-5, rtol=1e-5)
    config = MynaModel.from_pretrained(tmp_path / "out").config
    assert (config.pooling, config.sampling_rate, config.decibel_factor) == ("cls", 44_100, 2.0)
    said = " ".join(report.notes)
    assert "does not say which positions" in said and "slopes" in said and "'rpe-44k'" in said
    assert "Unlicense" in (tmp_path / "out" / LICENCE_FILE).read_text()


def test_learned_rows_are_added_and_distances_mean_nothing(tmp_path):
    tensors = relative(y_pos_embedding=torch.randn(8, WIDTH, generator=torch.Generator().manual_seed(6)))
    convert_myna(saved(tensors, tmp_path / "rows.pt"), tmp_path / "out")
    power = spectrograms(320)
    expected = torch.stack([published(tensors, spectrogram, SQUARE, added="rows") for spectrogram in power])
    torch.testing.assert_close(ours(tmp_path / "out", power).pooler_output, expected, atol=1e-5, rtol=1e-5)


def test_positions_can_be_named_and_must_go_with_the_tensors(tmp_path):
    source = saved(relative(), tmp_path / "weights.pt")
    convert_myna(source, tmp_path / "out", positions="alibi_2d")
    config = MynaModel.from_pretrained(tmp_path / "out").config
    assert (config.position_embedding, config.slopes) == ("alibi_2d", "halving")
    with pytest.raises(ValueError, match="lacks learned rows.*'none', 'alibi_2d' or 'sincos_2d'"):
        convert_myna(source, tmp_path / "out", positions="alibi_1d")
    rows = saved(relative(y_pos_embedding=torch.zeros(8, WIDTH)), tmp_path / "rows.pt")
    with pytest.raises(ValueError, match="holds learned rows.*'none' or 'alibi_1d'"):
        convert_myna(rows, tmp_path / "out", positions="alibi_2d")
    with pytest.raises(ValueError, match="`positions` is 'alibi'; allowed: 'sincos_2d'"):
        convert_myna(source, tmp_path / "out", positions="alibi")
    with pytest.raises(ValueError, match="`front_end` is 'mel'; allowed: 'default'"):
        convert_myna(source, tmp_path / "out", front_end="mel")


def test_the_layout_has_as_many_parameters_as_the_public_models():
    def count(model_class, **fields):
        with torch.device("meta"):
            return sum(parameter.numel() for parameter in model_class(MynaConfig(**fields)).parameters())

    small = MynaConfig.size("small")
    # As measured of the model with relative positions and its head of 128; and "85m".
    assert count(MynaForPreTraining, **small, position_embedding="none", projector_sizes=[128]) == 21_425_536
    base = {**MynaConfig.size("base"), "patch_sizes": [SQUARE, VERTICAL], "use_cls_token": False, "pooling": "mean"}
    assert round(count(MynaModel, **base, position_embedding="sincos_2d") / 1e6) == 85


# What is refused.


def refused(tensors, tmp_path, **options):
    with pytest.raises(CheckpointMismatch) as caught:
        convert_myna(saved(tensors, tmp_path / "base.pt"), tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()
    return caught.value


def test_missing_tensors_are_named(tmp_path):
    tensors = state_dict(SQUARE)
    del tensors["transformer.layers.0.1.net.3.bias"], tensors["to_patch_embedding.3.weight"]
    error = refused(tensors, tmp_path)
    assert sorted(error.missing) == ["to_patch_embedding.3.weight", "transformer.layers.0.1.net.3.bias"]
    assert "2 missing: " in str(error) and "net.3.bias" in str(error)


def test_unknown_tensors_are_named_as_they_stand_in_the_file(tmp_path):
    tensors = {f"module.{name}": tensor for name, tensor in state_dict(SQUARE).items()}
    tensors["module.transformer.layers.1.0.rotary.inv_freq"] = torch.ones(32)
    error = refused(tensors, tmp_path)
    assert error.unexpected == ["module.transformer.layers.1.0.rotary.inv_freq"] and "rotary" in str(error)


def test_tensors_of_another_shape_are_named_with_both(tmp_path):
    tensors = state_dict(SQUARE)
    tensors["transformer.layers.1.0.to_out.weight"] = torch.zeros(WIDTH, 64)
    error = refused(tensors, tmp_path)
    assert error.misshapen == ["transformer.layers.1.0.to_out.weight (128, 64) for (128, 128)"]


def test_a_gap_between_layers_is_missing_tensors_and_not_fewer_layers(tmp_path):
    tensors = {re.sub(r"layers\.1\.", "layers.2.", name): tensor for name, tensor in state_dict(SQUARE).items()}
    assert any(name.startswith("transformer.layers.1.") for name in refused(tensors, tmp_path).missing)


def test_a_layer_with_an_absurd_number_is_refused_before_any_is_built(tmp_path):
    tensors = state_dict(SQUARE) | {"transformer.layers.900000000.0.norm.weight": torch.ones(1)}
    with pytest.raises(ValueError, match="beyond the 200th"):
        convert_myna(saved(tensors, tmp_path / "base.pt"), tmp_path / "out")


def test_another_network_is_none_of_its_names(tmp_path):
    error = refused({"conv1.weight": torch.ones(2), "fc.bias": torch.ones(3)}, tmp_path)
    assert "none of its 2 names is known" in str(error) and error.unexpected == ["conv1.weight", "fc.bias"]


def test_tables_of_positions_are_left_out_only_if_they_are_the_fixed_ones(tmp_path):
    tensors = state_dict(SQUARE) | {"pos_embedding": table(8, 6, WIDTH)}
    convert_myna(saved(tensors, tmp_path / "base.pt"), tmp_path / "out")
    learned = state_dict(SQUARE) | {"pos_embedding": table(8, 6, WIDTH) + 0.1}
    with pytest.raises(CheckpointMismatch, match="1 unexpected: pos_embedding"):
        convert_myna(saved(learned, tmp_path / "base.pt"), tmp_path / "other")


def test_a_whole_pickled_module_is_refused_unread(tmp_path):
    torch.save(nn.Linear(2, 2), tmp_path / "base.pt")
    with pytest.raises(ValueError, match="A pickle can run any code"):
        convert_myna(tmp_path / "base.pt", tmp_path / "out")


@pytest.mark.parametrize(
    ("content", "said"),
    [(b"version https://git-lfs", "git lfs pull"), (b"<html>", "web page"), (b"rubbish", "damaged")],
)
def test_what_lies_in_a_files_place_is_told(content, said, tmp_path):
    (tmp_path / "base.safetensors").write_bytes(content)
    with pytest.raises(ValueError, match=said):
        convert_myna(tmp_path / "base.safetensors", tmp_path / "out")


def test_values_that_no_training_leaves_behind_are_refused(tmp_path):
    tensors = state_dict(SQUARE)
    tensors["transformer.norm.weight"][3] = torch.nan
    with pytest.raises(ValueError, match=r"damaged: 'transformer\.norm\.weight'"):
        convert_myna(saved(tensors, tmp_path / "base.pt"), tmp_path / "out")
    tensors["transformer.norm.weight"] = torch.ones(WIDTH, dtype=torch.long)
    with pytest.raises(ValueError, match="is of type int64"):
        convert_myna(saved(tensors, tmp_path / "base.pt"), tmp_path / "out")


def test_the_source_is_not_overwritten_and_places_that_are_none_are_told(tmp_path):
    source = saved(state_dict(SQUARE), tmp_path / "base.pt")
    with pytest.raises(ValueError, match="holds the source"):
        convert_myna(source, tmp_path)
    with pytest.raises(ValueError, match="is a file"):
        convert_myna(source, source)
    with pytest.raises(FileNotFoundError, match="There is nothing"):
        convert_myna(tmp_path / "none.pt", tmp_path / "out")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="it holds none"):
        convert_myna(tmp_path / "empty", tmp_path / "out")


# The command.


def test_the_command_converts_and_says_what_it_did(tmp_path, capsys):
    source = saved(state_dict(SQUARE), tmp_path / "weights.bin")
    assert main(["convert", "myna", str(source), str(tmp_path / "out"), "--patch-sizes", "128x2", "--keep-head"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("weights.bin: 30 tensors, ") and "front end 'myna'" in out
    model = MynaForPreTraining.from_pretrained(tmp_path / "out")
    assert model.config.patch_sizes == [[128, 2]] and model.config.projector_sizes == [50]


@pytest.mark.parametrize("size", ["16", "16x", "0x2", "axb"])
def test_a_patch_size_that_is_none_is_a_usage_error(size, tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["convert", "myna", "x.pt", str(tmp_path / "out"), "--patch-sizes", size])
    assert stop.value.code == 2 and "such as 16x16" in capsys.readouterr().err
