# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import doctest

import numpy as np
import pytest

from hf_mathrock.metrics import retrieval


def test_the_example_of_the_docstring_runs():
    assert doctest.testmod(retrieval) == (0, 1)


def test_average_precision_is_scikit_learns_where_no_two_are_equal():
    from sklearn.metrics import average_precision_score

    rng = np.random.default_rng(0)
    similarity, relevant = rng.normal(size=(30, 20)), rng.uniform(size=(30, 20)) < 0.3
    expected = [average_precision_score(hits, row) for hits, row in zip(relevant, similarity, strict=True)]
    assert retrieval.average_precision(similarity, relevant) == pytest.approx(expected, abs=1e-12)


def test_the_query_itself_can_be_left_out():
    embeddings = np.array([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0], [0.1, 0.9]])
    works = np.array([0, 0, 1, 1])
    similarity = retrieval.cosine_similarity(embeddings)
    found = retrieval.evaluate(similarity, works[:, None] == works, np.eye(4, dtype=bool))
    assert found["map"] == found["top_1"] == 1.0 and found["num_queries"] == 4


def test_an_embedding_that_tells_nothing_apart_gains_nothing_by_order():
    similarity = retrieval.cosine_similarity(np.ones((4, 3)))
    works = np.array([0, 0, 1, 1])
    found = retrieval.evaluate(similarity, works[:, None] == works, np.eye(4, dtype=bool))
    assert found["top_1"] == 0.0 and found["map"] == pytest.approx(1 / 3)
    assert found["map"] < found["chance_map"]


def test_chance_is_what_random_orders_reach():
    rng = np.random.default_rng(0)
    relevant = np.zeros((4000, 12), dtype=bool)
    relevant[:, :3] = True
    excluded = np.zeros_like(relevant)
    excluded[:, 11] = True
    found = retrieval.evaluate(rng.normal(size=relevant.shape), relevant, excluded)
    assert found["chance_map"] == pytest.approx(found["map"], abs=0.01)
    assert found["chance_top_1"] == pytest.approx(3 / 11) == pytest.approx(found["top_1"], abs=0.02)


def test_a_query_without_anything_relevant_does_not_count():
    found = retrieval.evaluate([[0.9, 0.1], [0.2, 0.8]], [[True, False], [False, False]])
    assert found["num_queries"] == 1 and found["map"] == 1.0
    assert retrieval.evaluate([[0.9]], [[False]]) == {}
    assert np.isnan(retrieval.top_1([[0.9]], [[False]])).all()


def test_a_zero_vector_is_similar_to_nothing():
    assert retrieval.cosine_similarity([[0.0, 0.0]], [[1.0, 0.0], [0.0, 0.0]]).tolist() == [[0.0, 0.0]]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: retrieval.cosine_similarity([1.0, 2.0]), r"queries have the shape \(2,\)"),
        (lambda: retrieval.cosine_similarity([[np.nan]]), "without sound"),
        (lambda: retrieval.cosine_similarity([[1.0]], [[1.0, 2.0]]), "of two models"),
        (lambda: retrieval.evaluate([[1.0]], [[True, False]]), r"what is relevant \(1, 2\)"),
        (lambda: retrieval.evaluate([[np.nan]], [[True]]), "query 0 has a similarity"),
    ],
)
def test_what_does_not_fit_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
