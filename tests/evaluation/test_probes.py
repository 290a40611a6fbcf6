# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import inspect
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from hf_mathrock.evaluation import probes
from hf_mathrock.evaluation.probe_grid import GRIDS, ProbeGrid, ProbeSettings, probe_grid
from hf_mathrock.evaluation.probe_kinds import (
    PRIMARY,
    Songs,
    best_strategies,
    chances_of,
    checked_labels,
    loss_of,
    metrics_of,
    strategies_of,
)
from hf_mathrock.evaluation.probe_training import Scaler, train_probes
from hf_mathrock.evaluation.probes import ProbeData, run_probe, run_probe_over_seeds, select_probe

POINT = ProbeSettings(True, 16, 32, 1e-2, 0.25, 1e-3)
QUICK = ProbeGrid((replace(POINT, hidden_size=0), POINT), patience=12)


def divided(num):
    """60, 20 and 20 per cent."""
    return np.array((["train"] * 3 + ["validation", "test"]) * (num // 5))


def song_like(seed=0, num=300, size=6, num_classes=3):
    """Embeddings of which a part tells the class."""
    rng = np.random.default_rng(seed)
    classes = rng.integers(num_classes, size=num)
    embeddings = rng.normal(size=(num, size))
    embeddings[:, :num_classes] += 3 * np.eye(num_classes)[classes]
    return embeddings.astype(np.float32), classes


# --- the grid ---------------------------------------------------------------------------------------------------------


def test_the_grid_of_jukemir_has_its_216_points():
    grid = GRIDS["jukemir"]
    assert len(set(grid.settings)) == 216 == len(grid.settings)
    values = {name: {getattr(point, name) for point in grid.settings} for name in POINT.as_dict()}
    assert values == {
        "standardize": {False, True},
        "hidden_size": {0, 512},
        "batch_size": {64, 256},
        "learning_rate": {1e-5, 1e-4, 1e-3},
        "dropout": {0.25, 0.5, 0.75},
        "l2": {0.0, 1e-4, 1e-3},
    }
    assert (grid.patience, grid.evaluate_every) == (256, 8)


def test_the_fast_grid_is_a_part_of_it():
    assert set(GRIDS["fast"].settings) < set(GRIDS["jukemir"].settings)
    assert len({point.hidden_size for point in GRIDS["fast"].settings}) == 2


@pytest.mark.parametrize("grid", ["slow", ProbeGrid((), 3), ProbeGrid((POINT,), 0)])
def test_a_grid_that_is_none_is_refused(grid):
    with pytest.raises(ValueError, match=r"'jukemir', 'fast'|at least one point"):
        probe_grid(grid)


# --- training side by side --------------------------------------------------------------------------------------------


def alone(point, rows, targets, validation, labels, num_outputs, patience, seed):
    """One probe with torch's own Adam, drawing what the others draw."""
    scaler = Scaler.fit(rows)
    if point.standardize:
        rows, validation = scaler(rows), scaler(validation)
    begin, draw = torch.Generator().manual_seed(seed), torch.Generator().manual_seed(seed)
    widths = [rows.shape[1], *([point.hidden_size] if point.hidden_size else []), num_outputs]
    weights = []
    for width, next_width in zip(widths[:-1], widths[1:], strict=True):
        for shape in ((width, next_width), (next_width,)):
            weights.append(((2 * torch.rand(shape, generator=begin) - 1) / width**0.5).requires_grad_())
    adam = torch.optim.Adam(weights, lr=point.learning_rate, weight_decay=point.l2)
    rows, targets, validation = map(torch.from_numpy, (rows, targets, validation))

    def forward(values, dropped):
        for layer in range(0, len(weights), 2):
            values = values.relu() if layer else values
            if dropped:
                values = values * (torch.rand(values.shape, generator=draw) >= point.dropout) / (1 - point.dropout)
            values = values @ weights[layer] + weights[layer + 1]
        return values

    best, kept, waited, step = -1.0, None, 0, 0
    while True:
        if step % 8 == 0:
            with torch.no_grad():
                score = (forward(validation, False).argmax(1).numpy() == labels).mean()
            waited += 1
            if score > best:
                best, kept, waited = score, [weight.detach().clone().numpy() for weight in weights], 0
            if waited >= patience:
                return best, kept
        chosen = torch.randperm(len(rows), generator=draw)[: point.batch_size]
        loss = F.cross_entropy(forward(rows[chosen], True), targets[chosen])
        adam.zero_grad()
        loss.backward()
        adam.step()
        step += 1


def test_probes_side_by_side_come_out_as_with_torchs_adam_alone():
    settings = (
        POINT,
        replace(POINT, learning_rate=1e-3, dropout=0.75, l2=0.0),
        replace(POINT, standardize=False, dropout=0.5),
        replace(POINT, hidden_size=0),
        replace(POINT, hidden_size=0, batch_size=200, l2=1e-4),  # more than there are rows
    )
    embeddings, classes = song_like(num=120)
    embeddings = embeddings * 3 + 1
    rows, validation = embeddings[:90], embeddings[90:]
    songs = Songs.of_rows(np.arange(30), classes[90:])
    trained = train_probes(
        rows,
        classes[:90],
        validation,
        3,
        ProbeGrid(settings, patience=5),
        loss_of("classification"),
        lambda outputs: best_strategies(outputs, songs, "classification"),
        seed=3,
        device=torch.device("cpu"),
    )
    found = {probe.settings: probe for probe in trained}
    assert set(found) == set(settings)
    for point in settings:
        score, weights = alone(point, rows, classes[:90], validation, classes[90:], 3, 5, 3)
        assert found[point].score == score
        for ours, theirs in zip(sum(found[point].layers, ()), weights, strict=True):
            np.testing.assert_allclose(ours, theirs, atol=2e-5)


def test_a_probe_stops_after_so_many_evaluations_without_a_better_one():
    told = iter([0.1, 0.3, 0.3, 0.2, 0.5, 0.5, 0.4, 0.5])
    evaluations = []

    def score(outputs):
        evaluations.append(len(outputs))
        return np.array([next(told)]), np.array([0])

    embeddings, classes = song_like(num=60)
    (probe,) = train_probes(
        embeddings,
        classes,
        embeddings,
        3,
        ProbeGrid((POINT,), patience=3),
        loss_of("classification"),
        score,
        seed=0,
        device=torch.device("cpu"),
    )
    # Equal is no better: 0.5 is reached at the fifth evaluation, of the steps 0, 8, 16, 24 and 32.
    assert (probe.score, probe.step, len(evaluations)) == (0.5, 32, 8)


def test_a_probe_that_diverges_does_not_hold_the_others_up():
    calls = []

    def score(outputs):
        calls.append(len(outputs))
        return np.array([0.5] * (len(outputs) - 1) + [np.nan if len(calls) == 2 else 0.4]), np.zeros(len(outputs), int)

    embeddings, classes = song_like(num=60)
    grid = ProbeGrid((POINT, replace(POINT, dropout=0.5)), patience=4)
    arguments = (embeddings, classes, embeddings, 3, grid, loss_of("classification"))
    probes_ = list(train_probes(*arguments, score, seed=0, device=torch.device("cpu")))
    assert calls == [2, 2, 1, 1, 1]
    assert [(probe.settings.dropout, probe.score) for probe in probes_] == [(0.5, 0.4), (0.25, 0.5)]
    with pytest.raises(RuntimeError, match="no score from the first step on"):
        nothing = train_probes(
            *arguments, lambda outputs: (np.full(len(outputs), np.nan), np.zeros(2, int)), seed=0, device="cpu"
        )
        list(nothing)


def test_the_scaler_is_that_of_the_training_rows_and_leaves_constants_alone():
    rows = np.array([[1.0, 5.0, 1e4], [3.0, 5.0, 1e4]], np.float32)
    scaler = Scaler.fit(rows)
    assert scaler.mean.tolist() == [2.0, 5.0, 1e4] and scaler.deviation.tolist() == [1.0, 1.0, 1.0]
    embeddings, classes = song_like()
    data = ProbeData(embeddings, classes, divided(300))
    moved = embeddings.copy()
    moved[data.split == "validation"] *= 7.0
    chosen = [
        select_probe(of.rows("train", "classification"), of.rows("validation", "classification"), *rest)
        for of in (data, replace(data, embeddings=moved))
        for rest in [("classification", 3, QUICK)]
    ]
    np.testing.assert_array_equal(chosen[0].scaler.mean, chosen[1].scaler.mean)
    np.testing.assert_allclose(chosen[0].scaler.mean, embeddings[data.split == "train"].mean(0), atol=1e-6)


# --- no test row before the choice ------------------------------------------------------------------------------------


def test_who_chooses_is_given_no_test_rows(monkeypatch):
    assert "data" not in inspect.signature(select_probe).parameters
    order = []

    class Watched(ProbeData):
        def rows(self, split, kind):
            order.append(split)
            return super().rows(split, kind)

    def watched_select(*args, **kwargs):
        order.append("chosen")
        return select_probe(*args, **kwargs)

    monkeypatch.setattr(probes, "select_probe", watched_select)
    embeddings, classes = song_like()
    run_probe(Watched(embeddings, classes, divided(300)), "classification", QUICK)
    assert order == ["train", "validation", "chosen", "test"]


def test_other_test_rows_change_nothing_but_the_metrics():
    embeddings, classes = song_like()
    split = divided(300)
    other = embeddings.copy()
    other[split == "test"] = 0.0
    results = [run_probe(ProbeData(of, classes, split), "classification", QUICK, 5) for of in (embeddings, other)]
    for name in ("settings", "validation_score", "step", "strategy", "num_songs"):
        assert getattr(results[0], name) == getattr(results[1], name)
    assert results[0].score > results[1].score
    other[split == "test"] = np.nan
    with pytest.raises(ValueError, match="the embedding of row 4 is not finite"):
        run_probe(ProbeData(other, classes, split), "classification", QUICK)


# --- what it learns ---------------------------------------------------------------------------------------------------


def test_classes_that_can_be_told_apart_are():
    embeddings, classes = song_like()
    result = run_probe(
        ProbeData(embeddings, classes, divided(300), label_names=["a", "b", "c"]), "classification", QUICK
    )
    assert result.score == result.metrics["accuracy"] > 0.9 > result.chance + 0.4
    assert result.num_songs == {"train": 180, "validation": 60, "test": 60}
    assert result.primary == "accuracy" and result.strategy is None


def test_classes_that_cannot_be_told_apart_are_not():
    embeddings, classes = song_like()
    shuffled = np.random.default_rng(1).permutation(classes)
    assert run_probe(ProbeData(embeddings, shuffled, divided(300)), "classification", QUICK).score < 0.55


def test_what_no_line_divides_takes_the_hidden_layer():
    rng = np.random.default_rng(0)
    corners = rng.integers(2, size=(500, 2))
    embeddings = corners * 2 - 1 + 0.2 * rng.normal(size=(500, 2))
    grid = ProbeGrid((replace(POINT, hidden_size=0), replace(POINT, hidden_size=32)), patience=30)
    result = run_probe(ProbeData(embeddings, corners[:, 0] ^ corners[:, 1], divided(500)), "classification", grid)
    assert result.settings["hidden_size"] == 32 and result.score > 0.9


def test_keys_are_scored_both_ways():
    rng = np.random.default_rng(0)
    keys = rng.integers(24, size=600)
    embeddings = np.eye(24)[keys] * 4 + rng.normal(size=(600, 24))
    result = run_probe(ProbeData(embeddings, keys, divided(600)), "key", QUICK)
    assert result.primary == "weighted_score"
    assert 0.7 < result.metrics["accuracy"] <= result.metrics["weighted_score"] <= result.metrics["mirex_score"]


def test_keys_by_name_are_those_by_number():
    names = ["C major", "Gb minor", "F# minor", "B minor"] * 25
    by_name = checked_labels(names, "key", 100)
    assert by_name.tolist() == [0, 18, 18, 23] * 25


def test_numbers_come_back_on_their_own_scale():
    rng = np.random.default_rng(0)
    embeddings = rng.normal(size=(400, 5)).astype(np.float32)
    targets = np.stack([1000 + 50 * embeddings[:, 0], embeddings[:, 1] / 1000], axis=1)
    targets[0] = np.nan  # unknown: the row is left out
    data = ProbeData(embeddings, targets, divided(400), label_names=["arousal", "valence"])
    grid = ProbeGrid((replace(POINT, hidden_size=0, dropout=0.0, l2=0.0),), patience=30)
    result = run_probe(data, "regression", grid)
    assert result.metrics["r2_arousal"] > 0.95 < result.metrics["r2_valence"]
    assert result.num_songs["train"] == 239
    train, validation = data.rows("train", "regression"), data.rows("validation", "regression")
    chosen = select_probe(train, validation, "regression", 2, grid)
    assert chosen.outputs(embeddings)[:, 0].mean() == pytest.approx(1000, abs=10)


def test_labels_that_nobody_knows_have_no_part_in_it():
    rng = np.random.default_rng(0)
    labels = rng.integers(2, size=(300, 3)).astype(np.float32)
    embeddings = labels * 3 + rng.normal(size=(300, 3))
    labels[rng.uniform(size=labels.shape) < 0.2] = -100
    result = run_probe(ProbeData(embeddings, labels, divided(300)), "multi_label", QUICK)
    assert result.primary == "roc_auc" and result.score > 0.9 and result.chance == 0.5
    assert result.metrics["map"] > result.metrics["prior"] + 0.3


def test_one_seed_gives_one_result_and_several_a_spread():
    embeddings, classes = song_like()
    data = ProbeData(embeddings + np.random.default_rng(2).normal(size=embeddings.shape) * 2, classes, divided(300))
    assert run_probe(data, "classification", QUICK, 1) == run_probe(data, "classification", QUICK, 1)
    summary = run_probe_over_seeds(data, "classification", QUICK, (0, 1, 2, 3))
    scores = [result.score for result in summary.results]
    assert len(set(scores)) > 1
    assert summary.mean["accuracy"] == pytest.approx(np.mean(scores))
    assert summary.deviation["accuracy"] == pytest.approx(np.std(scores, ddof=1))
    assert run_probe_over_seeds(data, "classification", QUICK, (0,)).deviation["accuracy"] is None


def test_the_progress_counts_the_probes():
    embeddings, classes = song_like()
    heard = []
    data = ProbeData(embeddings, classes, divided(300))
    run_probe(data, "classification", QUICK, progress=lambda done, of: heard.append((done, of)))
    assert heard == [(1, 2), (2, 2)]


# --- songs of several clips -------------------------------------------------------------------------------------------


def test_each_strategy_joins_clips_in_its_way():
    # Class 0 wins two of three clips by little, class 1 one by much, class 2 has the greatest single logit but one.
    outputs = np.array([[1.0, 0.9, -5.0], [1.0, 0.9, -5.0], [-9.0, 3.0, 3.5]], np.float32)
    songs = Songs.of_rows(np.zeros(3), np.array([1, 1, 1]))
    answers = {name: int(songs.joined(outputs, "classification", name)[0].argmax()) for name in strategies_of("key")}
    assert answers == {"vote": 0, "max": 2, "mean_logit": 1, "mean_prob": 1}
    shares = songs.joined(outputs, "multi_label", "vote")[0]
    np.testing.assert_allclose(shares, [2 / 3, 1, 1 / 3], atol=1e-6)


def test_clips_are_joined_whatever_their_order():
    rng = np.random.default_rng(0)
    outputs, numbers = rng.normal(size=(2, 40, 3)).astype(np.float32), rng.permutation(np.repeat(np.arange(8), 5))
    songs = Songs.of_rows(numbers, numbers % 3)
    joined = songs.joined(outputs, "classification", "mean_logit")
    expected = np.stack([outputs[:, numbers == song].mean(axis=1) for song in range(8)], axis=1)
    np.testing.assert_allclose(joined, expected, atol=1e-6)
    assert songs.labels.tolist() == [song % 3 for song in range(8)]


@pytest.mark.parametrize("kind", list(PRIMARY))
@pytest.mark.parametrize("clips", [1, 4])
def test_what_is_chosen_by_is_what_is_reported(kind, clips):
    rng = np.random.default_rng(0)
    outputs = rng.normal(size=(5, 24 * clips, 24)).astype(np.float32)
    labels = {
        "classification": rng.integers(24, size=24),
        "key": rng.integers(24, size=24),
        "regression": rng.normal(size=(24, 24)),
        "multi_label": rng.choice([0.0, 1.0, -100.0], size=(24, 24)),
    }[kind]
    songs = Songs.of_rows(np.repeat(np.arange(24), clips), np.repeat(labels, clips, axis=0))
    scores, strategies = best_strategies(outputs, songs, kind)
    for probe in range(5):
        names = strategies_of(kind)
        each = [
            metrics_of(songs.joined(outputs[probe], kind, name), labels, kind, None)[PRIMARY[kind]] for name in names
        ]
        assert scores[probe] == pytest.approx(max(each), abs=1e-6)
        assert strategies[probe] == (0 if clips == 1 else int(np.argmax(each)))


def test_the_strategy_is_chosen_on_the_validation_songs():
    # In every song one clip speaks loudly and truly, the others softly and falsely: only "max" hears it.
    rng = np.random.default_rng(0)
    classes = np.repeat(rng.integers(2, size=100), 3)
    side = np.where(np.arange(300) % 3 == 0, 5.0, -1.0) * (2 * classes - 1)
    embeddings = np.stack([side, np.abs(side)], axis=1) + 0.1 * rng.normal(size=(300, 2))
    split = np.repeat(divided(100), 3)
    data = ProbeData(embeddings, classes, split, groups=np.repeat(np.arange(100), 3))
    result = run_probe(data, "classification", ProbeGrid((replace(POINT, hidden_size=0, dropout=0.0),), patience=12))
    assert result.strategy != "vote" and result.score > 0.9
    assert result.num_songs == {"train": 60, "validation": 20, "test": 20}


def test_chance_is_the_best_single_answer():
    assert chances_of(np.array([0, 0, 1]), "classification") == {"accuracy": pytest.approx(2 / 3)}
    # Of C, C and G major, an answer of C scores 1 + 1 + 0, of G 0.5 + 0.5 + 1.
    found = chances_of(np.array([0, 0, 7]), "key")
    assert found["weighted_score"] == pytest.approx(2 / 3) == found["accuracy"]
    # A falling fifth from G to C counts as well.
    assert found["mirex_score"] == pytest.approx(2.5 / 3)
    labels = np.array([[1.0, 0.0], [0.0, 0.0], [-100.0, 0.0]])
    assert chances_of(labels, "multi_label") == {"roc_auc": 0.5, "map": 0.5}
    targets = np.array([[1.0, 2.0], [2.0, 3.0]])
    assert chances_of(targets, "regression", ["a", "b"]) == {"r2": 0.0, "r2_a": 0.0, "r2_b": 0.0}


# --- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "kind", "message"),
    [
        ({}, "genre", "`kind` is 'genre'; allowed are 'classification'"),
        ({"split": np.array(["train"] * 300)}, "classification", "no row of the split 'validation'.*'train': 300"),
        ({"groups": np.zeros(300)}, "classification", "clips of the group '0.0' stand in 'train' and in another split"),
        ({"labels": np.full(300, -100)}, "classification", "no row of the split 'train' has a known label"),
        ({"labels": np.arange(300) % 30}, "key", "whole numbers 0 to 23"),
        ({"labels": np.full(300, 0.5)}, "classification", "whole numbers from 0 on"),
        ({"labels": np.zeros((300, 2))}, "classification", r"shape \(300, 2\) came"),
        ({"labels": np.full((300, 2), 3.0)}, "multi_label", "are 1, 0 or -100"),
        ({"labels": np.zeros(300)}, "multi_label", r"shape \(300,\); \(300, num_outputs\)"),
        ({"labels": np.zeros(300)}, "regression", "same targets"),
        ({"labels": np.ones((300, 2))}, "multi_label", "no label is held by some"),
        ({"label_names": ["a", "b"]}, "classification", "a label is 2; with 2 label names"),
        ({"embeddings": np.zeros(300)}, "classification", r"embeddings have the shape \(300,\)"),
    ],
)
def test_data_that_make_no_probe_are_refused(changes, kind, message):
    embeddings, classes = song_like()
    data = replace(ProbeData(embeddings, classes, divided(300)), **changes)
    with pytest.raises(ValueError, match=message):
        run_probe(data, kind, QUICK)


def test_a_song_of_two_labels_is_refused():
    embeddings, classes = song_like()
    groups = np.char.add(divided(300), (np.arange(300) // 10).astype(str))
    with pytest.raises(ValueError, match="one group have different labels.*works or artists"):
        run_probe(ProbeData(embeddings, classes, divided(300), groups=groups), "classification", QUICK)
    with pytest.raises(ValueError, match="`seeds` is empty"):
        run_probe_over_seeds(ProbeData(embeddings, classes, divided(300)), "classification", QUICK, ())
