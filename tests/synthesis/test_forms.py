# SPDX-License-Identifier: Apache-2.0
"""Long forms: the classes are told by the order of sections alone, labels are balanced, takes are of one work."""

from __future__ import annotations

import json
import pickle
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest

from hf_mathrock.synthesis.form_plans import (
    AWAY_INTERVALS,
    FORMS,
    FORMS_OF_EQUAL_TRANSITIONS,
    METER_CHANGES,
    METERS,
    FormPlan,
    plan_form,
)
from hf_mathrock.synthesis.forms import (
    FormAudio,
    compose_form,
    facts_of_form,
    labels_of_form,
    render_form,
    take,
)
from hf_mathrock.synthesis.harmony import MODES, QUALITIES


@pytest.fixture(scope="module")
def plans() -> list[FormPlan]:
    return [plan_form(seed) for seed in range(720)]


def bag(plan: FormPlan, home: int = 0) -> Counter:
    return Counter(zip(plan.letters, ((key - home) % 12 for key in plan.keys), plan.meters, plan.num_bars, strict=True))


def test_the_same_arguments_give_the_same_piece_and_another_seed_another() -> None:
    assert compose_form(5) == compose_form(5)
    assert compose_form(5).piece.tracks != compose_form(8).piece.tracks


def test_every_label_is_balanced_and_independent_of_the_class(plans: list[FormPlan]) -> None:
    labels = [labels_of_form(plan) for plan in plans]
    for name, classes in (
        ("form", FORMS),
        ("meter_change", METER_CHANGES),
        ("key_change", [f"{interval:+d}" for interval in AWAY_INTERVALS]),
        ("home_key", range(12)),
        ("key", range(12)),
        ("mode", MODES),
        ("tonality", ("major", "minor")),
        ("tempo", ("slow", "moderate", "fast")),
    ):
        counts = Counter(label[name] for label in labels if label[name] is not None)
        assert set(counts) == set(classes)
        assert len(set(counts.values())) == 1, (name, counts)
    for name, other in (("form", "tempo"), ("form", "mode"), ("meter_change", "tempo"), ("key_change", "tonality")):
        pairs = Counter((label[name], label[other]) for label in labels if label[name] is not None)
        expected = sum(pairs.values()) / len({a for a, _ in pairs}) / len({b for _, b in pairs})
        # Chi-square per degree of freedom of a table of independent draws is about 1.
        squares = sum((count - expected) ** 2 / expected for count in pairs.values())
        assert squares < 3 * len(pairs)


def test_neither_length_nor_vibe_nor_level_tells_the_class(plans: list[FormPlan]) -> None:
    for design in ("form", "meter", "home"):
        chosen = [plan for plan in plans if plan.design == design]
        for figure in (
            lambda plan: plan.grids()[-1][-1].end,
            lambda plan: plan.materials["A"].level,
            lambda plan: plan.materials["A"].vibe == "aggressive",
        ):
            values = np.array([float(figure(plan)) for plan in chosen])
            for label in {plan.label for plan in chosen}:
                mine = np.array([plan.label == label for plan in chosen])
                error = values.std() * np.sqrt(1 / mine.sum() + 1 / (~mine).sum())
                assert abs(values[mine].mean() - values[~mine].mean()) < 4 * error


def test_the_forms_have_the_same_sections_the_same_number_of_times(plans: list[FormPlan]) -> None:
    for plan in plans:
        if plan.design == "form":
            assert Counter(plan.letters) == {"A": 2, "B": 2}
            assert len(bag(plan)) == 2
    assert len({frozenset(Counter(form).items()) for form in FORMS_OF_EQUAL_TRANSITIONS}) == 1
    assert len({frozenset(Counter(pairwise(form)).items()) for form in FORMS_OF_EQUAL_TRANSITIONS}) == 1


def test_the_two_directions_of_a_meter_change_have_the_same_sections(plans: list[FormPlan]) -> None:
    seen = Counter()
    for plan in plans:
        if plan.design == "meter" and " to " in plan.label:
            seen[plan.label] += 1
            assert set(Counter(zip(plan.letters, plan.meters, strict=True)).values()) == {1}
            assert "{}/{} to {}/{}".format(*plan.meters[0], *plan.meters[-1]) == plan.label
            assert [a == b for a, b in pairwise(plan.meters)] == [True, False, True]
    assert len(seen) == 2


def test_a_piece_that_leaves_home_is_as_long_away_with_the_same_music(plans: list[FormPlan]) -> None:
    for plan in plans:
        if plan.design == "home":
            home, away = plan.keys[0], plan.keys[1]
            assert plan.keys == (home, away, away, home)
            assert home != away
            assert set(Counter(zip(plan.letters, plan.keys, strict=True)).values()) == {1}
            labels = labels_of_form(plan)
            assert labels["key"] is None
            assert (labels["home_key"], labels["away_key"]) == (home, away)
            assert (away - home - int(labels["key_change"])) % 12 == 0


def test_sections_are_whole_bars_of_their_meter_and_chords_stay_in_their_key() -> None:
    for seed in range(12):
        form = compose_form(seed)
        piece, plan = form.piece, form.plan
        assert piece.duration == pytest.approx(96, abs=0.1 * 96 + 8)
        assert [section.name for section in piece.sections] == list(plan.letters)
        for before, after in pairwise(piece.sections):
            assert before.end == pytest.approx(after.start)
        assert piece.sections[-1].end == pytest.approx(piece.duration)
        for section, key, meter in zip(piece.sections, plan.keys, plan.meters, strict=True):
            bars = [bar for bar in piece.bars if section.start - 1e-6 <= bar.start < section.end - 1e-6]
            assert {bar.meter for bar in bars} == {meter}
            assert (bars[0].start, bars[-1].end) == pytest.approx((section.start, section.end))
            scale = {(key + interval) % 12 for interval in MODES[plan.mode]}
            for chord in piece.chords:
                if section.start - 1e-6 <= chord.start < section.end - 1e-6:
                    assert {(chord.root + interval) % 12 for interval in QUALITIES[chord.quality]} <= scale


def test_a_material_comes_back_with_its_parts_and_the_other_one_is_another_music() -> None:
    for seed in range(0, 36, 3):
        form = compose_form(seed)
        materials = form.plan.materials
        for part in ("vibe", "progression", "motif", "contour"):
            assert getattr(materials["A"], part) != getattr(materials["B"], part)
        played: dict[str, list[set]] = {"A": [], "B": []}
        for section in form.piece.sections:
            played[section.name].append(
                {
                    (name, round(note.start - section.start, 3), note.pitch)
                    for name, notes in form.piece.tracks.items()
                    for note in notes
                    if section.start - 1e-6 <= note.start < section.end - 1e-6
                }
            )
        for first, second in played.values():
            assert len(first & second) > 0.5 * len(first | second)
        assert len(played["A"][0] & played["B"][0]) < 0.35 * len(played["A"][0] | played["B"][0])


def test_takes_are_the_work_in_another_key_at_another_tempo_and_keep_its_plan() -> None:
    first = compose_form(7)
    assert take(first, 0) == first
    others = [take(first, number) for number in range(1, 6)]
    assert {other.plan.work_id for other in others} == {first.plan.work_id}
    assert len({other.plan.recording_seed for other in (first, *others)}) == 6
    assert len({other.plan.transposition for other in others}) > 1
    for other in others:
        plan = other.plan
        assert -3 <= plan.transposition <= 3
        assert 0.92 <= plan.speed <= 1.08
        assert plan.bpm == pytest.approx(first.plan.bpm * plan.speed, abs=0.01)
        assert (plan.keys[0] - first.plan.keys[0] - plan.transposition) % 12 == 0
        assert (plan.label, plan.letters, plan.meters, plan.num_bars, plan.materials) == (
            first.plan.label,
            first.plan.letters,
            first.plan.meters,
            first.plan.num_bars,
            first.plan.materials,
        )


def test_facts_survive_json_and_their_times_are_those_of_the_audio() -> None:
    form = compose_form(2, seconds=32)
    facts = facts_of_form(form)
    assert facts == facts_of_form(form.plan)
    assert json.loads(json.dumps(facts)) == facts
    audio = render_form(form, 8000)
    assert audio.dtype == np.float32
    assert audio.ndim == 1
    assert len(audio) / 8000 == pytest.approx(facts["sections"][-1]["end"], abs=1e-3)


def test_a_pickled_take_renders_to_the_same_audio() -> None:
    audio = FormAudio(3, 32.0, take=1, sampling_rate=8000)
    assert pickle.loads(pickle.dumps(audio)) == audio
    heard = audio()
    np.testing.assert_array_equal(heard, pickle.loads(pickle.dumps(audio))())
    other = FormAudio(3, 32.0, take=0, sampling_rate=8000)()
    assert len(other) != len(heard)


def test_designs_can_be_chosen_and_works_of_one_name_are_one_work() -> None:
    for seed in range(6):
        chosen = plan_form(seed, design="meter")
        assert chosen.design == "meter"
        if seed % 3 == 1:
            assert chosen == plan_form(seed)
    six = plan_form(0, design="form", forms=FORMS_OF_EQUAL_TRANSITIONS)
    assert len(six.letters) == 6
    assert six.work_id != plan_form(0).work_id
    assert set(METERS) >= {plan_form(seed, design="form").meters[0] for seed in range(12)}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"seed": -1}, "seed is -1"),
        ({"seed": 0, "take": -2}, "take is -2"),
        ({"seed": 0, "seconds": 10}, "seconds is 10"),
        ({"seed": 0, "design": "rondo"}, "'rondo'"),
        ({"seed": 0, "forms": ("AAAB", "ABAB")}, "same numbers"),
        ({"seed": 0, "forms": ()}, "same numbers"),
    ],
)
def test_arguments_out_of_range_are_named(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        plan_form(**arguments)
