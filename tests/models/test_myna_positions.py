# SPDX-License-Identifier: Apache-2.0
"""Where a token stands: what Myna adds to its scores and its tokens, held to the formulas in numpy."""

import numpy as np
import pytest
import torch

from hf_mathrock.models.myna_positions import alibi_slopes, grid_positions, rope_angles, rotated, sincos_2d
from numpy_myna import CANONICAL, HALVING, NumpyMyna, grid, patches_at, score_bias, sincos, turned
from tiny_myna import tiny_myna

SCHEMES = ["alibi_2d", "alibi_1d", "rope_2d", "sincos_2d", "none"]
RELATIVE = ["alibi_2d", "alibi_1d", "rope_2d"]
PATCH = 16 * 16


def places(num_tokens=9, columns=20, seed=0):
    """Different positions in no order, `(num_tokens, 2)` as (column, row)."""
    chosen = np.random.default_rng(seed).permutation(columns * 8)[:num_tokens]
    return np.stack([chosen // 8, chosen % 8], axis=1)


def patches(num_tokens=9, batch_size=1, seed=0):
    return torch.from_numpy(
        np.random.default_rng(seed).standard_normal((batch_size, num_tokens, PATCH)).astype(np.float32)
    )


def at(positions):
    return torch.from_numpy(np.asarray(positions))[None]


def stirred(**fields):
    """A model none of whose parameters is at its first value, so that nothing agrees because it is zero."""
    model = tiny_myna(**fields)
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return model.eval()


def blank(**fields):
    """A model all of whose weights are zero but its slopes: nothing speaks but positions."""
    model = tiny_myna(**fields)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "slopes" not in name:
                parameter.zero_()
    return model.eval()


@torch.no_grad()
def heard(model, given, positions, **kwargs):
    return model(patches=given, position_ids=at(positions), **kwargs)


def bias_of(weights):
    """What was added to the scores, `(num_heads, 1 + num_tokens, 1 + num_tokens)`: without content the weights are its
    softmax, and no token is at a distance from itself."""
    logarithms = weights[0].double().log().numpy()
    return logarithms - np.diagonal(logarithms, axis1=1, axis2=2)[:, :, None]


def bias_in_effect(positions, **fields):
    """The bias of the last layer, which is that of all."""
    output = heard(blank(**fields), patches(len(positions)), positions, output_attentions=True)
    first, last = map(bias_of, output.attentions)
    np.testing.assert_array_equal(first, last)
    return last


# -- Slopes -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "expected"), [("canonical", CANONICAL), ("halving", HALVING)])
def test_slopes_are_those_of_the_paper_and_of_the_published_code(kind, expected):
    for num_heads, slopes in expected.items():
        np.testing.assert_allclose(alibi_slopes(num_heads, kind).numpy(), slopes, rtol=1e-6)


@pytest.mark.parametrize("num_heads", [5, 7, 16, 24])
def test_slopes_of_any_number_of_heads_differ(num_heads):
    for kind in ("canonical", "halving"):
        slopes = alibi_slopes(num_heads, kind)
        assert len(set(slopes.tolist())) == num_heads and slopes.min() > 0 and slopes.max() < 1


# -- The bias ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("slopes", ["halving", "canonical", "learned"])
@pytest.mark.parametrize("num_heads", [3, 6, 12])
def test_the_bias_is_minus_slope_times_distance(slopes, num_heads):
    expected = score_bias(places(), (CANONICAL if slopes == "canonical" else HALVING)[num_heads])
    bias = bias_in_effect(places(), slopes=slopes, num_attention_heads=num_heads, hidden_size=4 * num_heads)
    np.testing.assert_allclose(bias, expected, atol=2e-5)


@pytest.mark.parametrize("freq_scale", [0.0, 0.3, 2.5])
def test_a_row_counts_freq_scale_columns(freq_scale):
    expected = score_bias(places(), HALVING[3], freq_scale)
    np.testing.assert_allclose(bias_in_effect(places(), freq_scale=freq_scale), expected, atol=2e-5)


def test_heads_differ():
    bias = bias_in_effect(places())
    for first in range(3):
        for second in range(first):
            assert np.abs(bias[first] - bias[second]).max() > 0.01


@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_class_token_is_at_no_distance_from_anything(scheme):
    bias = bias_in_effect(places(), position_embedding=scheme)
    np.testing.assert_allclose(bias[:, 0], 0, atol=1e-6)
    np.testing.assert_allclose(bias[:, :, 0], 0, atol=1e-6)


@pytest.mark.parametrize("scheme", ["rope_2d", "sincos_2d", "none"])
def test_schemes_without_distances_add_nothing_to_the_scores(scheme):
    np.testing.assert_allclose(bias_in_effect(places(), position_embedding=scheme), 0, atol=1e-6)


def test_near_is_favoured_over_far():
    line = np.stack([np.arange(12), np.zeros(12, dtype=int)], axis=1)
    bias = bias_in_effect(line)
    assert (np.diff(bias[:, 1, 1:], axis=-1) < 0).all()
    np.testing.assert_allclose(bias[:, 1:, 1:], np.swapaxes(bias[:, 1:, 1:], 1, 2), atol=1e-5)


# -- Time is time -----------------------------------------------------------------------------------------------------


def test_one_dimensional_alibi_hears_distances_in_time_alone():
    original = places()
    other_rows = np.stack([original[:, 0], original[::-1, 1]], axis=1)
    stretched = original * [2, 1]
    bias, of_other_rows, of_stretched = (
        bias_in_effect(positions, position_embedding="alibi_1d") for positions in (original, other_rows, stretched)
    )
    assert (original != other_rows).any()
    np.testing.assert_allclose(bias, score_bias(original, HALVING[3], 0.0), atol=2e-5)
    np.testing.assert_allclose(of_other_rows, bias, atol=1e-6)
    np.testing.assert_allclose(of_stretched, 2 * bias, atol=4e-5)
    assert np.abs(bias).max() > 0.5


def test_the_first_coordinate_of_a_spectrogram_is_its_time():
    with torch.no_grad():
        output = blank()(torch.zeros(1, 80, 128), output_attentions=True)
    assert output.position_ids[0].tolist() == [[-1, -1], *grid(80).tolist()]
    assert output.position_ids[..., 0].max() == 80 // 16 - 1 and output.position_ids[..., 1].max() == 128 // 16 - 1
    np.testing.assert_allclose(bias_of(output.attentions[0]), score_bias(grid(80), HALVING[3]), atol=2e-5)


def test_a_grid_runs_row_by_row_from_the_lowest():
    assert grid_positions(8, 5).tolist() == grid(80).tolist()


@pytest.mark.parametrize("scheme", RELATIVE)
def test_a_shift_in_time_changes_nothing(scheme):
    model, given = stirred(position_embedding=scheme), patches()
    here = heard(model, given, places())
    for shift in (1, 7, 400):
        there = heard(model, given, places() + [shift, 0])
        torch.testing.assert_close(there.last_hidden_state, here.last_hidden_state, atol=2e-5, rtol=0)
        torch.testing.assert_close(there.pooler_output, here.pooler_output, atol=2e-5, rtol=0)


@pytest.mark.parametrize("scheme", RELATIVE)
def test_a_shift_by_hours_changes_nothing(scheme):
    model, given = stirred(position_embedding=scheme), patches()
    here, there = (heard(model, given, places() + [shift, 0]).last_hidden_state for shift in (0, 123_457))
    torch.testing.assert_close(there, here, atol=2e-5, rtol=0)


@pytest.mark.parametrize("scheme", ["alibi_2d", "rope_2d"])
def test_a_shift_in_frequency_changes_nothing(scheme):
    model, given = stirred(position_embedding=scheme), patches()
    low = np.stack([places()[:, 0], places()[:, 1] // 2], axis=1)
    here, there = (heard(model, given, low + [0, shift]) for shift in (0, 4))
    torch.testing.assert_close(there.last_hidden_state, here.last_hidden_state, atol=2e-5, rtol=0)


def test_learned_rows_and_added_places_are_absolute():
    low = np.stack([places()[:, 0], places()[:, 1] // 2], axis=1)
    rows = stirred(position_embedding="alibi_1d")
    shifted = heard(rows, patches(), low + [0, 4]).pooler_output - heard(rows, patches(), low).pooler_output
    assert shifted.abs().max() > 1e-3
    added = stirred(position_embedding="sincos_2d")
    for shift in ([1, 0], [0, 1]):
        shifted = heard(added, patches(), low + shift).pooler_output - heard(added, patches(), low).pooler_output
        assert shifted.abs().max() > 1e-3


@pytest.mark.parametrize("scheme", ["alibi_2d", "rope_2d", "sincos_2d"])
@pytest.mark.parametrize("axis", [0, 1])
def test_distances_are_heard_along_both_axes(scheme, axis):
    model, given = stirred(position_embedding=scheme), patches()
    stretched = places() // 2
    further = stretched.copy()
    further[:, axis] *= 2
    difference = heard(model, given, further).pooler_output - heard(model, given, stretched).pooler_output
    assert difference.abs().max() > 1e-4


def test_without_positions_places_mean_nothing():
    model, given = stirred(position_embedding="none"), patches()
    here, there = (heard(model, given, places(seed=seed)) for seed in (0, 1))
    torch.testing.assert_close(there.last_hidden_state, here.last_hidden_state, atol=1e-6, rtol=0)


def test_one_row_up_is_not_one_column_on():
    """Turns by the sum of both, as in the published code, cannot tell these apart."""
    model, given = stirred(position_embedding="rope_2d"), patches(3)
    up, on = [(0, 0), (0, 1), (5, 3)], [(0, 0), (1, 0), (5, 3)]
    difference = heard(model, given, up).last_hidden_state - heard(model, given, on).last_hidden_state
    assert difference.abs().max() > 1e-3


# -- Order ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_order_of_tokens_means_nothing(scheme):
    model, given = stirred(position_embedding=scheme), patches(40)
    positions = places(40)
    order = np.random.default_rng(5).permutation(40)
    here, there = heard(model, given, positions), heard(model, given[:, order], positions[order])
    torch.testing.assert_close(there.last_hidden_state[:, 0], here.last_hidden_state[:, 0], atol=1e-5, rtol=0)
    torch.testing.assert_close(
        there.last_hidden_state[:, 1:], here.last_hidden_state[:, 1:][:, order], atol=1e-5, rtol=0
    )
    torch.testing.assert_close(there.pooler_output, here.pooler_output, atol=1e-5, rtol=0)


# -- The formulas -----------------------------------------------------------------------------------------------------


def test_added_places_are_sines_and_cosines_of_column_and_row():
    positions = places(columns=500)
    np.testing.assert_allclose(sincos_2d(at(positions)[0], 24).numpy(), sincos(positions, 24), atol=5e-5)
    states = heard(
        blank(position_embedding="sincos_2d"), patches(), positions, output_hidden_states=True
    ).hidden_states[0]
    np.testing.assert_allclose(states[0, 1:].numpy(), sincos(positions, 24), atol=5e-5)
    assert not states[0, 0].any()


def test_turns_are_pairs_of_channels_by_column_and_row():
    vectors = np.random.default_rng(0).standard_normal((2, 9, 64))
    positions = places(columns=400)
    given = rotated(torch.from_numpy(vectors)[None], rope_angles(at(positions), 64, 100.0))[0]
    np.testing.assert_allclose(given.numpy(), turned(vectors, positions, 100.0), atol=2e-4)


def test_an_untrained_model_tells_no_row_from_another():
    """Learned rows begin at zero, so that a new model is that without them."""
    model = tiny_myna(position_embedding="alibi_1d").eval()
    (rows,) = (parameter for name, parameter in model.named_parameters() if "rows" in name)
    assert rows.shape == (8, 24) and not rows.any()


@pytest.mark.parametrize("slopes", ["halving", "canonical"])
@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_encoder_is_what_is_written_down(scheme, slopes):
    """Every layer in numpy, a pair of tokens at a time."""
    model = stirred(position_embedding=scheme, slopes=slopes, freq_scale=0.7)
    spectrogram = np.random.default_rng(2).standard_normal((80, 128)).astype(np.float32)
    with torch.no_grad():
        output = model(torch.from_numpy(spectrogram)[None])
    positions = grid(80)
    expected = NumpyMyna(model)(patches_at(spectrogram, positions), positions)
    np.testing.assert_allclose(output.last_hidden_state[0].numpy(), expected, atol=5e-5)
    np.testing.assert_allclose(output.pooler_output[0].numpy(), expected[0], atol=5e-5)


# -- Learning ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("implementation", ["sdpa", "eager"])
def test_learned_slopes_and_rows_are_parameters_with_gradients(implementation):
    for fields, name, shape in (
        ({"slopes": "learned"}, "slopes", (3,)),
        ({"position_embedding": "alibi_1d", "slopes": "learned"}, "slopes", (3,)),
        ({"position_embedding": "alibi_1d"}, "rows", (8, 24)),
    ):
        model = stirred(**fields)
        model.set_attn_implementation(implementation)
        model(patches=patches(24), position_ids=at(grid(48))).pooler_output.square().sum().backward()
        (parameter,) = (parameter for key, parameter in model.named_parameters() if name in key)
        assert parameter.shape == shape and isinstance(parameter, torch.nn.Parameter)
        assert parameter.grad.isfinite().all() and bool((parameter.grad != 0).all()), (fields, implementation)


def test_learned_slopes_stay_positive_and_keep_their_meaning():
    model = tiny_myna(slopes="learned").eval()
    (slopes,) = (parameter for name, parameter in model.named_parameters() if "slopes" in name)
    with torch.no_grad():
        slopes.copy_(torch.tensor([-30.0, 0.0, 3.0]))
        for name, parameter in model.named_parameters():
            if "slopes" not in name:
                parameter.zero_()
    positions = places(columns=8)
    bias = bias_of(heard(model, patches(), positions, output_attentions=True).attentions[0])
    np.testing.assert_allclose(bias, score_bias(positions, np.log1p(np.exp([-30.0, 0.0, 3.0]))), atol=1e-4)


def test_fixed_slopes_are_no_parameters():
    names = [name for name, _ in tiny_myna().named_parameters()]
    assert not any("slopes" in name for name in names)
    assert not any("slopes" in name for name in tiny_myna().state_dict())
