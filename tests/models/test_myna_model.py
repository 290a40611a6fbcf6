# SPDX-License-Identifier: Apache-2.0
"""Myna from spectrogram to embedding: patchout, lengths, batches, budgets, hybrids, training, saving."""

import numpy as np
import pytest
import torch
from transformers import AutoConfig, AutoModel, AutoModelForAudioClassification, AutoModelForPreTraining

from hf_mathrock.models.configuration_myna import MynaConfig
from hf_mathrock.models.modeling_myna import MynaForAudioClassification, MynaForPreTraining, MynaModel
from numpy_myna import NumpyMyna, grid, patches_at
from tiny_myna import tiny_myna, tiny_myna_config, tiny_myna_for_pretraining

SCHEMES = ["alibi_2d", "alibi_1d", "rope_2d", "sincos_2d", "none"]
HYBRID = [[16, 16], [128, 2]]
TASKS = [
    {"name": "genre", "type": "single_label", "labels": ["rock", "jazz", "folk"]},
    {"name": "mood", "type": "multi_label", "labels": ["calm", "angry"]},
]


@pytest.fixture(scope="module")
def model():
    """A model in evaluation mode; tests must not change it."""
    return stirred()


def stirred(make=tiny_myna, **fields):
    """A model none of whose parameters is at its first value, so that nothing agrees because it is zero."""
    model = make(**fields)
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model.eval()


def classifier(**fields):
    torch.manual_seed(0)
    return MynaForAudioClassification(tiny_myna_config(**fields)).eval()


def spectrogram(num_frames, batch_size=1, seed=0):
    return torch.randn(batch_size, num_frames, 128, generator=torch.Generator().manual_seed(seed))


@torch.no_grad()
def heard(model, *args, **kwargs):
    return model(*args, **kwargs)


def places_of(output, row=0):
    """Columns and rows of a row's tokens, without the class token and padding."""
    places = output.position_ids[row]
    return places[(places >= 0).all(-1)]


def padded(clips, value):
    batch = torch.full((len(clips), max(map(len, clips)) + 40, 128), value)
    mask = torch.zeros(batch.shape[:2], dtype=torch.long)
    for row, clip in enumerate(clips):
        batch[row, : len(clip)], mask[row, : len(clip)] = clip, 1
    return {"input_features": batch, "attention_mask": mask}


# -- Size and shape ---------------------------------------------------------------------------------------------------


def test_the_small_one_has_as_many_parameters_as_the_published_one():
    """With one linear layer to 128 behind it, 21 425 536."""
    with torch.device("meta"):
        model = MynaForPreTraining(MynaConfig(projector_sizes=[128]))
        base = MynaModel(MynaConfig(**MynaConfig.size("base")))
    assert sum(parameter.numel() for parameter in model.parameters()) == 21_425_536
    assert model.config.to_dict().items() >= MynaConfig.size("small").items()
    assert base.config.num_attention_heads == 12 and 85e6 < sum(p.numel() for p in base.parameters()) < 87e6


@pytest.mark.parametrize(
    ("fields", "width"),
    [
        ({}, 24),
        ({"pooling": "mean"}, 24),
        ({"pooling": "mean", "use_cls_token": False}, 24),
        ({"pooling": "cls_mean"}, 48),
        ({"patch_sizes": [[128, 2]]}, 24),
        ({"patch_sizes": HYBRID}, 48),
        ({"patch_sizes": HYBRID, "pooling": "cls_mean"}, 96),
    ],
)
def test_the_embedding_is_as_long_as_the_config_says(fields, width):
    model = stirred(**fields)
    output = heard(model, spectrogram(64, batch_size=2))
    assert output.pooler_output.shape == (2, width) and model.config.embedding_size == width
    assert output.mode == "whole" and output.pooler_output.isfinite().all()


def test_pooling_takes_the_class_token_the_mean_or_both():
    states = {}
    for pooling in ("cls", "mean", "cls_mean"):
        output = heard(stirred(pooling=pooling), spectrogram(64))
        states[pooling] = (
            output.pooler_output[0],
            output.last_hidden_state[0, 0],
            output.last_hidden_state[0, 1:].mean(0),
        )
    torch.testing.assert_close(states["cls"][0], states["cls"][1], atol=0, rtol=0)
    torch.testing.assert_close(states["mean"][0], states["mean"][2], atol=1e-6, rtol=0)
    torch.testing.assert_close(states["cls_mean"][0], torch.cat(states["cls_mean"][1:]), atol=1e-6, rtol=0)


@pytest.mark.parametrize("num_frames", [16, 17, 31, 32, 96, 100, 256, 1000, 7500])
def test_any_length_from_one_patch_on_is_heard_whole(model, num_frames):
    output = heard(model, spectrogram(num_frames))
    num_tokens = num_frames // 16 * 8
    assert output.mode == "whole" and output.pooler_output.isfinite().all()
    assert output.last_hidden_state.shape == (1, 1 + num_tokens, 24) and output.token_mask.all()
    assert places_of(output).tolist() == grid(num_frames).tolist()


def test_frames_that_fill_no_patch_mean_nothing(model):
    features = spectrogram(111)
    expected = heard(model, features[:, :96])
    torch.testing.assert_close(heard(model, features).pooler_output, expected.pooler_output, atol=0, rtol=0)


def test_patches_given_by_hand_are_those_of_the_spectrogram(model):
    features = spectrogram(96)
    given = torch.from_numpy(patches_at(features[0].numpy(), grid(96)))[None]
    by_hand = heard(model, patches=given, position_ids=torch.from_numpy(grid(96))[None])
    torch.testing.assert_close(by_hand.last_hidden_state, heard(model, features).last_hidden_state, atol=1e-6, rtol=0)


def test_tall_patches_are_held_to_numpy_too():
    model = stirred(patch_sizes=[[128, 2]])
    features = spectrogram(40)
    positions = grid(40, patch_size=(128, 2))
    assert len(positions) == 20 and not positions[:, 1].any()
    expected = NumpyMyna(model)(patches_at(features[0].numpy(), positions, (128, 2)), positions)
    np.testing.assert_allclose(heard(model, features).last_hidden_state[0].numpy(), expected, atol=5e-5)


# -- Patchout ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("num_frames", "patchout", "kept"),
    [
        (256, 0.9, 13),  # of 128
        (96, 0.9, 5),  # of 48
        (16, 0.9, 1),  # of 8: at least one
        (160, 0.9, 8),  # of 80
        (80, 0.95, 2),  # of 40
        (80, 0.75, 10),
        (48, 0.5, 12),
        (48, 0.25, 18),
        (48, 0.0, 24),
    ],
)
def test_training_keeps_as_many_tokens_as_written_down(num_frames, patchout, kept):
    model = stirred(patchout=patchout).train()
    output = heard(model, spectrogram(num_frames, batch_size=3))
    num_tokens = num_frames // 16 * 8
    assert kept == max(1, num_tokens - int(np.floor(round(patchout * num_tokens, 6))))
    assert output.last_hidden_state.shape == (3, 1 + kept, 24)
    assert output.mode == ("patchout" if patchout else "whole")
    for row in range(3):
        places = {tuple(place) for place in places_of(output, row).tolist()}
        assert len(places) == kept and places <= set(map(tuple, grid(num_frames).tolist()))


@pytest.mark.parametrize("scheme", SCHEMES)
def test_tokens_that_are_kept_keep_their_places(scheme):
    """What training hears is what those patches say at those places."""
    model = stirred(position_embedding=scheme).train()
    features = spectrogram(256, batch_size=2)
    output = heard(model, features)
    for row in range(2):
        places = places_of(output, row)
        kept = torch.from_numpy(patches_at(features[row].numpy(), places))[None]
        again = heard(model, patches=kept, position_ids=places[None], keep_ratio=1.0)
        torch.testing.assert_close(again.last_hidden_state[0], output.last_hidden_state[row], atol=1e-5, rtol=0)


def test_every_row_and_every_view_keeps_others():
    model = stirred().train()
    features = spectrogram(256).expand(4, -1, -1)
    torch.manual_seed(0)
    one, two = heard(model, features), heard(model, features)
    selections = [tuple(map(tuple, places_of(view, row).tolist())) for view in (one, two) for row in range(4)]
    assert len(set(selections)) == 8
    torch.manual_seed(0)
    again = heard(model, features)
    assert torch.equal(again.position_ids, one.position_ids) and torch.equal(again.pooler_output, one.pooler_output)


def test_both_views_of_a_track_are_drawn_apart():
    model = stirred(tiny_myna_for_pretraining).train()
    features = spectrogram(256, batch_size=3)
    output = heard(model, features, other_features=features)
    assert (output.projections - output.other_projections).abs().max() > 1e-4
    output = heard(model.eval(), features, other_features=features)
    torch.testing.assert_close(output.projections, output.other_projections, atol=1e-6, rtol=0)


def test_every_token_is_kept_as_often_as_any_other():
    model = stirred(patchout=0.75).train()
    torch.manual_seed(3)
    counts = torch.zeros(4, 8)
    for _ in range(20):
        output = heard(model, spectrogram(64, batch_size=32))
        for row in range(32):
            places = places_of(output, row)
            counts[places[:, 0], places[:, 1]] += 1
    assert counts.sum() == 20 * 32 * 8
    # 160 of each are expected, with a standard deviation of 11.
    assert (counts - 160).abs().max() < 5 * 11


def test_a_padded_batch_keeps_a_share_of_each_rows_own_tokens():
    model = stirred().train()
    output = heard(model, **padded([spectrogram(256)[0], spectrogram(96)[0]], value=1e3))
    assert output.token_mask.sum(1).tolist() == [14, 6]
    assert places_of(output, 1)[:, 0].max() < 6 and len(places_of(output, 1)) == 5


def test_a_share_may_be_asked_for():
    model = stirred()
    features = spectrogram(256)
    assert heard(model.train(), features, keep_ratio=1.0).mode == "whole"
    assert heard(model, features, keep_ratio=0.5).last_hidden_state.shape[1] == 65
    model.eval()
    whole = heard(model, features)
    torch.testing.assert_close(heard(model, features, keep_ratio=1.0).pooler_output, whole.pooler_output)
    for wrong in (0.0, -0.1, 1.5):
        with pytest.raises(ValueError, match="keep_ratio"):
            model(features, keep_ratio=wrong)


@pytest.mark.parametrize("seeds", [1, 4])
def test_patchout_at_inference_is_the_same_every_time(seeds):
    model = stirred(patchout_seeds=seeds)
    features = spectrogram(256, batch_size=3)
    torch.manual_seed(0)
    one = heard(model, features, keep_ratio=0.25)
    state = torch.random.get_rng_state()
    torch.manual_seed(99)
    two = heard(model, features, keep_ratio=0.25)
    assert one.mode == two.mode == "patchout"
    assert torch.equal(one.pooler_output, two.pooler_output)
    torch.manual_seed(0)
    assert torch.equal(state, torch.random.get_rng_state())  # nothing was drawn from the caller's generator
    for row in range(3):
        alone = heard(model, features[row : row + 1], keep_ratio=0.25)
        torch.testing.assert_close(alone.pooler_output[0], one.pooler_output[row], atol=1e-6, rtol=0)
    assert (one.pooler_output - heard(model, features).pooler_output).abs().max() > 1e-4


def test_more_selections_come_nearer_to_the_whole():
    features = spectrogram(512, batch_size=4)
    whole = heard(stirred(), features).pooler_output
    distances = [
        (heard(stirred(patchout_seeds=seeds), features, keep_ratio=0.1).pooler_output - whole)
        .norm(dim=-1)
        .mean()
        .item()
        for seeds in (1, 16)
    ]
    assert distances[1] < distances[0]


# -- Batches ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("pooling", ["cls", "mean", "cls_mean"])
def test_padding_changes_nothing(scheme, pooling):
    model = stirred(position_embedding=scheme, pooling=pooling)
    clips = [spectrogram(length, seed=length)[0] for length in (96, 250, 16, 97, 256)]
    alone = [heard(model, clip[None]) for clip in clips]
    for value in (-1.0, 1e3):  # the floor, and what is none
        together = heard(model, **padded(clips, value))
        for row, single in enumerate(alone):
            torch.testing.assert_close(together.pooler_output[row], single.pooler_output[0], atol=1e-5, rtol=0)
            own = together.last_hidden_state[row][together.token_mask[row]]
            torch.testing.assert_close(own, single.last_hidden_state[0], atol=1e-5, rtol=0)


def test_a_mask_of_patches_hides_them(model):
    features = spectrogram(96)
    given, places = torch.from_numpy(patches_at(features[0].numpy(), grid(96)))[None], torch.from_numpy(grid(96))[None]
    mask = torch.ones(1, 48, dtype=torch.long)
    mask[0, 7], mask[0, 30:] = 0, 0
    hidden = heard(model, patches=given, position_ids=places, attention_mask=mask)
    kept = mask[0].bool()
    without = heard(model, patches=given[:, kept], position_ids=places[:, kept])
    torch.testing.assert_close(hidden.pooler_output, without.pooler_output, atol=1e-6, rtol=0)


def test_silence_has_an_embedding_and_gradients():
    model = stirred(tiny_myna_for_pretraining)
    floor = torch.full((2, 64, 128), -1.0)
    output = model(floor, other_features=floor)
    assert output.embeddings.isfinite().all() and output.loss.isfinite()
    output.loss.backward()
    assert all(parameter.grad is None or parameter.grad.isfinite().all() for parameter in model.parameters())


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({}, "input_features"),
        ({"input_features": torch.zeros(1, 15, 128)}, "15 frames"),
        ({"input_features": torch.zeros(1, 64, 80)}, "128"),
        ({"input_features": torch.zeros(64, 128)}, "batch_size"),
        ({"patches": torch.zeros(1, 4, 256)}, "position_ids"),
        ({"patches": torch.zeros(1, 4, 200), "position_ids": torch.zeros(1, 4, 2, dtype=torch.long)}, "256"),
        ({"patches": torch.zeros(1, 4, 256), "position_ids": torch.zeros(1, 3, 2, dtype=torch.long)}, "position_ids"),
        ({"input_features": torch.zeros(1, 64, 128), "long_input": "magic"}, "two_level"),
        ({"input_features": torch.zeros(1, 64, 128), "attention_mask": torch.zeros(1, 64)}, "mask"),
    ],
)
def test_a_wrong_input_is_refused_by_name(model, kwargs, message):
    with pytest.raises(ValueError, match=message):
        model(**kwargs)


# -- Beyond the budget ------------------------------------------------------------------------------------------------


def test_the_budget_is_kept_to_the_token():
    features = spectrogram(320)  # 160 tokens
    assert heard(stirred(max_tokens=160), features).mode == "whole"
    assert heard(stirred(max_tokens=159), features).mode == "patchout"
    assert heard(stirred(max_tokens=159, long_input="two_level"), features).mode == "two_level"
    assert heard(stirred(max_tokens=159), features, long_input="two_level").mode == "two_level"
    assert heard(stirred(max_tokens=16), features, keep_ratio=0.1).mode == "patchout"


def test_patchout_beyond_the_budget_hears_as_many_tokens_as_it_allows():
    """Of 160 tokens half, and no more however long the track is."""
    features = spectrogram(320, batch_size=2)
    model = stirred(max_tokens=80)
    output = heard(model, features)
    expected = heard(stirred(max_tokens=8192), features, keep_ratio=0.5)
    torch.testing.assert_close(output.pooler_output, expected.pooler_output, atol=1e-6, rtol=0)
    assert torch.equal(output.pooler_output, heard(model, features).pooler_output)
    heard_tokens = []
    model.encoder.register_forward_pre_hook(lambda module, args: heard_tokens.append(args[0].shape[1]))
    heard(model, spectrogram(1600))
    assert heard_tokens == [80] * 4


def test_two_levels_are_the_mean_of_equal_stretches():
    features = spectrogram(320)  # 20 columns
    output = heard(stirred(max_tokens=80, long_input="two_level"), features)
    halves = [heard(stirred(), part).pooler_output for part in features.split(160, dim=1)]
    torch.testing.assert_close(output.pooler_output, sum(halves) / 2, atol=1e-6, rtol=0)


@pytest.mark.parametrize("columns", [11, 13, 19, 21, 37, 64])
def test_stretches_are_alike_within_the_budget_and_leave_nothing_out(columns):
    model = stirred(max_tokens=80, long_input="two_level")
    lengths = []
    model.encoder.register_forward_pre_hook(lambda module, args: lengths.append(args[0].shape[1] // 8))
    assert heard(model, spectrogram(16 * columns + 5)).mode == "two_level"
    assert sum(lengths) == columns and max(lengths) <= 10
    assert len(lengths) == -(-columns // 10) and max(lengths) - min(lengths) <= 1


def test_stretches_of_a_hybrid_end_where_wide_patches_do():
    """The frames at the end, which fill narrow patches only, would break the last stretch up."""
    model = stirred(patch_sizes=HYBRID, max_tokens=48, long_input="two_level")  # 96 frames, as of published hybrids
    features = spectrogram(5 * 96 + 14)
    pieces = [heard(model, piece) for piece in features[:, : 5 * 96].split(96, dim=1)]
    assert {piece.mode for piece in pieces} == {"whole"}
    mean = torch.stack([piece.pooler_output for piece in pieces]).mean(dim=0)
    torch.testing.assert_close(heard(model, features).pooler_output, mean, atol=1e-6, rtol=0)


def test_an_hour_in_half_precision_is_weighed_stretch_by_stretch():
    model = stirred(patch_sizes=[[128, 16]], max_tokens=512, long_input="two_level").half()
    features = spectrogram(96).repeat(1, 800, 1).half()  # more frames than half precision can count
    assert features.shape[1] > torch.finfo(torch.float16).max
    once = heard(model, features[:, : 512 * 16])
    torch.testing.assert_close(heard(model, features).pooler_output, once.pooler_output, atol=2e-2, rtol=0)


def test_a_batch_names_each_way_it_was_heard():
    model = stirred(max_tokens=80)
    clips = [spectrogram(160)[0], spectrogram(320)[0]]
    output = heard(model, **padded(clips, -1.0))
    assert output.mode == "mixed"
    for row, clip in enumerate(clips):
        torch.testing.assert_close(
            output.pooler_output[row], heard(model, clip[None]).pooler_output[0], atol=1e-5, rtol=0
        )
    assert heard(model, **padded(clips[:1] * 2, -1.0)).mode == "whole"


@pytest.mark.parametrize("long_input", ["patchout", "two_level"])
def test_a_budget_of_less_than_a_column_is_refused_or_kept(long_input):
    """A track must not send the model into endless halving."""
    try:
        model = stirred(max_tokens=4, long_input=long_input)
    except ValueError as error:
        assert "max_tokens" in str(error)
        return
    assert heard(model, spectrogram(160)).pooler_output.isfinite().all()


# -- Hybrids ----------------------------------------------------------------------------------------------------------


def single_of(hybrid, index):
    """The model with only one of the hybrid's patch sizes, and its weights."""
    single = tiny_myna(
        **{"patch_sizes": [hybrid.config.patch_sizes[index]], "pooling": hybrid.config.pooling},
        position_embedding=hybrid.config.position_embedding,
    )
    weights = {name: tensor for name, tensor in hybrid.state_dict().items() if not name.startswith("patch_embeddings.")}
    prefix = f"patch_embeddings.{index}."
    for name, tensor in hybrid.state_dict().items():
        if name.startswith(prefix):
            weights["patch_embeddings.0." + name.removeprefix(prefix)] = tensor
    single.load_state_dict(weights)
    return single.eval()


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("pooling", ["cls", "cls_mean"])
def test_a_hybrid_is_both_of_its_parts_side_by_side(scheme, pooling):
    hybrid = stirred(patch_sizes=HYBRID, position_embedding=scheme, pooling=pooling)
    features = spectrogram(112, batch_size=2)
    expected = torch.cat([heard(single_of(hybrid, index), features).pooler_output for index in (0, 1)], dim=-1)
    output = heard(hybrid, features)
    torch.testing.assert_close(output.pooler_output, expected, atol=1e-6, rtol=0)
    assert output.last_hidden_state.shape == (2, 1 + 56 + 1 + 56, 24)


def test_a_hybrid_shares_its_transformer():
    single, hybrid = tiny_myna(), tiny_myna(patch_sizes=HYBRID)
    own = {name.removeprefix("patch_embeddings.1.") for name in set(hybrid.state_dict()) - set(single.state_dict())}
    assert own == {name.removeprefix("patch_embeddings.0.") for name in single.state_dict() if "patch_emb" in name}


def test_a_hybrid_hears_padded_batches_and_long_tracks():
    hybrid = stirred(patch_sizes=HYBRID, max_tokens=64)
    clips = [spectrogram(128)[0], spectrogram(50)[0], spectrogram(400)[0]]
    together = heard(hybrid, **padded(clips, -1.0))
    for row, clip in enumerate(clips):
        alone = heard(hybrid, clip[None])
        assert alone.mode == ("patchout" if row == 2 else "whole")
        torch.testing.assert_close(together.pooler_output[row], alone.pooler_output[0], atol=1e-5, rtol=0)
    assert heard(hybrid, clips[2][None], long_input="two_level").pooler_output.isfinite().all()


def test_a_hybrid_learns_by_both_parts():
    model = stirred(tiny_myna_for_pretraining, patch_sizes=HYBRID).train()
    model(spectrogram(256, 3), other_features=spectrogram(320, 3, seed=1)).loss.backward()
    assert without_gradient(model) == []


# -- Learning ---------------------------------------------------------------------------------------------------------


def without_gradient(model):
    return [name for name, p in model.named_parameters() if p.grad is None or not (p.grad.abs().sum() > 0)]


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"slopes": "learned"},
        {"position_embedding": "alibi_1d", "slopes": "learned"},
        {"position_embedding": "rope_2d"},
        {"position_embedding": "sincos_2d", "pooling": "mean"},
        {"position_embedding": "none", "pooling": "mean", "use_cls_token": False},
        {"pooling": "cls_mean"},
    ],
)
def test_every_parameter_has_a_gradient(fields):
    model = stirred(tiny_myna_for_pretraining, **fields).train()
    output = model(spectrogram(256, 4), other_features=spectrogram(200, 4, seed=1))
    output.loss.backward()
    assert without_gradient(model) == [] and all(p.grad.isfinite().all() for p in model.parameters())


def test_projections_are_unit_vectors_behind_the_embedding():
    model = stirred(tiny_myna_for_pretraining)
    output = heard(model, spectrogram(64, 3))
    torch.testing.assert_close(output.projections.norm(dim=-1), torch.ones(3))
    assert output.loss is None and output.other_projections is None
    torch.testing.assert_close(output.embeddings, heard(model.myna, spectrogram(64, 3)).pooler_output)
    projected = model.projector(output.embeddings)
    torch.testing.assert_close(output.projections, torch.nn.functional.normalize(projected, dim=-1))


def test_the_loss_is_the_symmetric_contrastive_one():
    model = stirred(tiny_myna_for_pretraining, temperature=0.2)
    output = heard(model, spectrogram(64, 4), other_features=spectrogram(96, 4, seed=1))
    scores = (output.projections.double() @ output.other_projections.double().T / 0.2).numpy()

    def cross_entropy(rows):
        return np.mean([np.log(np.exp(row).sum()) - row[index] for index, row in enumerate(rows)])

    assert output.loss.item() == pytest.approx((cross_entropy(scores) + cross_entropy(scores.T)) / 2, abs=1e-5)


def test_steps_of_training_lower_the_loss():
    torch.manual_seed(0)
    model = tiny_myna_for_pretraining(patchout=0.5).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    one, two = spectrogram(96, 4), spectrogram(96, 4) + 0.1 * spectrogram(96, 4, seed=1)
    losses = []
    for _ in range(40):
        loss = model(one, other_features=two).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert np.mean(losses[-5:]) < 0.7 * np.mean(losses[:5])


@pytest.mark.parametrize("fields", [{}, {"slopes": "learned"}, {"position_embedding": "rope_2d"}])
def test_gradient_checkpointing_gives_the_same_gradients(fields):
    gradients = []
    for checkpointing in (False, True):
        model = stirred(tiny_myna_for_pretraining, **fields)
        if checkpointing:
            model.gradient_checkpointing_enable()
        model.train()  # which switches checkpointing on
        torch.manual_seed(5)
        model(spectrogram(128, 3), other_features=spectrogram(96, 3, seed=1)).loss.backward()
        gradients.append({name: parameter.grad for name, parameter in model.named_parameters()})
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, atol=1e-6, rtol=1e-4, msg=name)


def test_low_precision_trains():
    model = stirred(tiny_myna_for_pretraining).train().to(torch.bfloat16)
    loss = model(spectrogram(128, 3).bfloat16(), other_features=spectrogram(96, 3, seed=1).bfloat16()).loss
    loss.backward()
    assert loss.isfinite() and all(parameter.grad.isfinite().all() for parameter in model.parameters())
    exact = stirred(tiny_myna_for_pretraining)
    low = stirred(tiny_myna_for_pretraining).to(torch.bfloat16)
    with torch.no_grad():
        torch.testing.assert_close(
            low(spectrogram(128, 3).bfloat16()).projections.float(),
            exact(spectrogram(128, 3)).projections,
            atol=0.06,
            rtol=0,
        )


def test_a_classifier_tags_windows_and_learns():
    model = classifier(tasks=TASKS, patchout=0.0).train()
    features = spectrogram(96, 4)
    output = model(input_features=features, labels={"genre": torch.tensor([0, 2, 1, 1]), "mood": torch.ones(4, 2)})
    assert {name: logits.shape for name, logits in output.task_logits.items()} == {"genre": (4, 3), "mood": (4, 2)}
    output.loss.backward()
    assert without_gradient(model) == []
    model.eval()
    each = heard(model, input_features=features)
    clips = heard(model, input_features=features, windows_per_clip=torch.tensor([3, 1]))
    torch.testing.assert_close(clips.embeddings[0], each.embeddings[:3].mean(0), atol=1e-6, rtol=0)
    together = heard(model, **padded([features[0], features[1, :40]], -1.0))
    torch.testing.assert_close(together.logits[0], each.logits[0], atol=1e-5, rtol=0)


# -- Saving and loading -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fields",
    [{}, {"position_embedding": "alibi_1d", "slopes": "learned"}, {"patch_sizes": HYBRID, "pooling": "cls_mean"}],
)
def test_a_model_that_was_saved_says_the_same_to_the_bit(fields, tmp_path):
    model = stirred(tiny_myna_for_pretraining, **fields)
    model.save_pretrained(tmp_path)
    assert (tmp_path / "model.safetensors").is_file()
    again, info = AutoModelForPreTraining.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(info[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    assert (
        type(again) is MynaForPreTraining and again.config.to_dict() == AutoConfig.from_pretrained(tmp_path).to_dict()
    )
    for name, tensor in model.state_dict().items():
        assert torch.equal(again.state_dict()[name], tensor), name
    expected, given = (heard(each.eval(), spectrogram(96, 2)) for each in (model, again))
    assert torch.equal(given.projections, expected.projections)


def test_the_encoder_loads_without_the_projector_and_the_classifier_with_a_new_head(tmp_path):
    model = stirred(tiny_myna_for_pretraining, slopes="learned")
    model.save_pretrained(tmp_path)
    base, info = AutoModel.from_pretrained(tmp_path, output_loading_info=True)
    assert type(base) is MynaModel and not info["missing_keys"]
    assert torch.equal(heard(base.eval(), spectrogram(96)).pooler_output, heard(model, spectrogram(96)).embeddings)
    tagger, info = AutoModelForAudioClassification.from_pretrained(tmp_path, num_labels=3, output_loading_info=True)
    assert all(name.startswith(("norm", "classifier")) for name in info["missing_keys"])
    tagged = heard(tagger.eval(), input_features=spectrogram(96))
    assert tagged.logits.shape == (1, 3)
    assert torch.equal(tagged.embeddings, heard(model, spectrogram(96)).embeddings)


def test_loading_on_the_meta_device_leaves_no_table_empty(tmp_path):
    """Slopes, places and turns follow from the settings; loading must not lose them."""
    for scheme in SCHEMES:
        model = stirred(position_embedding=scheme)
        model.save_pretrained(tmp_path / scheme)
        assert set(model.state_dict()) == {name for name, _ in model.named_parameters()}
        again = AutoModel.from_pretrained(tmp_path / scheme).eval()
        assert torch.equal(heard(again, spectrogram(96)).pooler_output, heard(model, spectrogram(96)).pooler_output)


def test_a_plain_tuple_has_the_embedding_second(model):
    named, plain = heard(model, spectrogram(96)), heard(model, spectrogram(96), return_dict=False)
    assert torch.equal(plain[0], named.last_hidden_state) and torch.equal(plain[1], named.pooler_output)


def test_hidden_states_are_those_between_the_layers(model):
    output = heard(model, spectrogram(96), output_hidden_states=True)
    assert [states.shape for states in output.hidden_states] == [(1, 49, 24)] * 3
    torch.testing.assert_close(model.encoder.norm(output.hidden_states[-1]), output.last_hidden_state)


# -- The configuration ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"position_embedding": "alibi"}, "`position_embedding` is 'alibi'"),
        ({"slopes": "steep"}, "`slopes` is 'steep'"),
        ({"pooling": "max"}, "`pooling` is 'max'"),
        ({"use_cls_token": False}, "`use_cls_token`"),
        ({"patchout": 1.0}, "`patchout` is 1.0"),
        ({"patchout": -0.1}, "`patchout` is -0.1"),
        ({"freq_scale": -1.0}, "`freq_scale` is -1.0"),
        ({"hidden_size": 25}, "`hidden_size` is 25"),
        ({"hidden_size": 18, "position_embedding": "rope_2d"}, "multiple of 4"),
        ({"hidden_size": 18, "position_embedding": "sincos_2d"}, "multiple of 4"),
        ({"patch_sizes": [[15, 16]]}, "15 bins"),
        ({"patch_sizes": [[16, 16], [16, 16]]}, "differ"),
        ({"patch_sizes": [16, 16]}, "holds 16"),
        ({"max_tokens": 0}, "`max_tokens` is 0"),
        ({"long_input": "chunks"}, "`long_input` is 'chunks'"),
        ({"patchout_seeds": 0}, "`patchout_seeds` is 0"),
        ({"temperature": 0.0}, "`temperature` is 0"),
        ({"projector_sizes": []}, "`projector_sizes`"),
        ({"sampling_rate": 0}, "`sampling_rate` is 0"),
        ({"feature": {"max_frequency_hz": 9000.0}}, "max_frequency_hz"),
    ],
)
def test_a_wrong_field_is_refused_by_name(fields, message):
    with pytest.raises(ValueError, match=message):
        tiny_myna_config(**fields)


def test_the_numbers_of_a_config_follow_from_one_another():
    config = MynaConfig()
    assert (config.frames_per_second, config.tokens_per_second, config.min_frames) == (31.25, 15.625, 16)
    assert config.embedding_size == 384 and config.num_mel_bins == 128
    config = MynaConfig(patch_sizes=HYBRID, pooling="cls_mean")
    assert config.embedding_size == 4 * 384 and config.min_frames == 16
    config = MynaConfig(**MynaConfig.front_end("rpe-44k"))
    assert (config.frames_per_second, config.tokens_per_second) == (100, 50) and config.sampling_rate == 44_100
    with pytest.raises(ValueError, match="huge"):
        MynaConfig.size("huge")
