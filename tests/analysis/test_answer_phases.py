"""Phases of answering: planted layers are found, curves have their closed forms."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import silhouette_score
from sklearn.metrics.pairwise import cosine_similarity

from spacy_bert.analysis.answer_phases import (
    LOW_CONFIDENCE,
    RIGHT_FACT,
    WRONG_MATCH,
    Parts,
    answer_isolation,
    cluster_separation,
    match_wrong_answer,
    parting_layer,
    phase_curves,
    silhouette,
    similarity_by_layer,
)

LAYERS, WIDTH = 8, 64
# Six tokens of the question, eight of the fact, eight of the sentence of an answer, forty others.
GROUPS = np.repeat(["question", "fact", "predicted", "other"], [6, 8, 8, 40])


def group(name: str) -> np.ndarray:
    return name == GROUPS


def parts() -> Parts:
    answer = np.zeros(len(GROUPS), dtype=bool)
    answer[14:16] = True  # in the sentence "predicted"
    others = np.split(np.flatnonzero(group("other")), 5)
    sentences = [
        np.isin(np.arange(len(GROUPS)), own) for own in (*others, group("predicted").nonzero())
    ]
    return Parts(
        answer=answer,
        question=group("question"),
        fact=group("fact"),
        sentences=np.array([*sentences, group("predicted")]),
    )


def planted(**joined_at: int) -> np.ndarray:
    """Random states, in which groups share the question's direction from some layer on."""
    generator = np.random.default_rng(0)
    hidden = generator.normal(size=(LAYERS + 1, len(GROUPS), WIDTH))
    direction = generator.normal(size=WIDTH) * 5.0
    for name, layer in {"question": 0, **joined_at}.items():
        hidden[layer:, group(name)] += direction
    return hidden


@pytest.mark.parametrize("layer", [1, 5])
def test_a_planted_match_shows_from_its_layer_on(layer: int) -> None:
    curves = phase_curves(planted(fact=layer), parts())
    assert np.abs(curves.question_fact[layer:] - curves.question_fact[-1]).max() < 0.1
    assert curves.fact_matching[layer:].min() > 0.7
    assert curves.fact_matching[:layer].max() < 0.1
    np.testing.assert_allclose(
        curves.fact_matching, curves.question_fact - curves.question_other, atol=1e-12
    )


def test_similarity_is_that_of_mean_directions() -> None:
    hidden = planted()
    found = similarity_by_layer(hidden, group("question"), group("fact"))
    for states, value in zip(hidden, found, strict=True):
        cosines = cosine_similarity(states - states.mean(axis=0))

        def mean(one: str, other: str, cosines: np.ndarray = cosines) -> float:
            return float(cosines[np.ix_(group(one), group(other))].mean())

        sizes = mean("question", "question") * mean("fact", "fact")
        np.testing.assert_allclose(value, mean("question", "fact") / np.sqrt(sizes))
    # The origin does not matter, nor the scale.
    moved = similarity_by_layer(hidden * 3.0 + 100.0, group("question"), group("fact"))
    np.testing.assert_allclose(moved, found, atol=1e-9)
    nothing = np.zeros(len(GROUPS), dtype=bool)
    assert np.isnan(similarity_by_layer(hidden, nothing, group("fact"))).all()


def test_clusters_are_seen_where_they_are() -> None:
    generator = np.random.default_rng(1)
    noise = generator.normal(size=(2, 60, WIDTH))
    noise[1] += np.repeat(generator.normal(size=(4, WIDTH)) * 8.0, 15, axis=0)
    blurred, clear = cluster_separation(noise)
    assert blurred < 0.1
    assert clear > 0.9
    points = np.repeat(np.eye(3), 5, axis=0)[None]  # three points: as well as can be
    np.testing.assert_allclose(cluster_separation(points), 1.0, atol=1e-9)
    assert cluster_separation(np.ones((1, 5, 4))).tolist() == [0.0]
    assert np.isnan(cluster_separation(np.ones((1, 2, 4)))).all()


@given(st.integers(2, 5), st.integers(0, 10_000))
def test_silhouette_is_sklearns(clusters: int, seed: int) -> None:
    generator = np.random.default_rng(seed)
    labels = generator.permutation([*range(clusters), *generator.integers(clusters, size=7)])
    points = generator.normal(size=(len(labels), 2))
    distances = np.linalg.norm(points[:, None] - points, axis=-1)
    expected = silhouette_score(distances, labels, metric="precomputed")
    assert silhouette(distances, labels) == pytest.approx(expected)


def test_isolation_in_closed_form() -> None:
    # The others on a unit triangle; the answer at the same distance from all, above its middle.
    corners = np.array([[0.0, 0.0], [1.0, 0.0], [0.5, np.sqrt(3) / 2]])
    x, y = corners.mean(axis=0)
    triangle = np.column_stack([corners, np.zeros(3)])
    answer = np.array([False, False, False, True])
    for distance in (1.0, 2.0, 4.0):
        height = np.sqrt(distance**2 - 1 / 3)
        states = np.vstack([triangle, [x, y, height]])
        found = answer_isolation(states[None], answer)
        np.testing.assert_allclose(found, (distance - 1.0) / distance, atol=1e-12)
    # Two tokens of an answer that coincide: a is the mean of 0 and 1.
    states = np.vstack([triangle, np.tile([x, y, np.sqrt(4 - 1 / 3)], (2, 1))])
    found = answer_isolation(states[None], np.append(answer, True))
    np.testing.assert_allclose(found, (2.0 - 0.5) / 2.0, atol=1e-12)


def test_isolation_of_any_token_is_none() -> None:
    hidden = np.random.default_rng(2).normal(size=(1, 400, 32))
    answer = np.arange(400) < 3
    assert abs(answer_isolation(hidden, answer)[0]) < 0.05
    hidden[:, answer] += 20.0
    assert answer_isolation(hidden, answer)[0] > 0.7
    assert np.isnan(answer_isolation(hidden, answer & False)).all()


@pytest.mark.parametrize(
    ("joined_at", "kind", "parting"),
    [
        ({"predicted": 3}, WRONG_MATCH, 3),
        ({"predicted": 0}, WRONG_MATCH, 0),
        ({"predicted": 6}, LOW_CONFIDENCE, 6),
        ({"predicted": 2, "fact": 2}, LOW_CONFIDENCE, None),
        ({"predicted": 2, "fact": 7}, LOW_CONFIDENCE, None),
        ({}, LOW_CONFIDENCE, None),
        ({"fact": 5}, RIGHT_FACT, 5),
    ],
)
def test_kinds_of_wrong_answers(joined_at: dict[str, int], kind: str, parting: int | None) -> None:
    hidden = planted(**joined_at)
    found = match_wrong_answer(
        hidden, group("question"), group("predicted"), group("fact"), margin=0.2
    )
    assert (found.kind, found.parting) == (kind, parting)


def test_an_answer_within_the_fact_and_no_answer() -> None:
    hidden, question, fact = planted(), group("question"), group("fact")
    within = match_wrong_answer(hidden, question, fact, fact)
    assert (within.kind, within.parting) == (RIGHT_FACT, None)
    missing = match_wrong_answer(hidden, question, fact & False, fact)
    assert (missing.kind, missing.parting) == (LOW_CONFIDENCE, None)
    assert np.isnan(missing.predicted).all()


@given(st.lists(st.floats(-1, 1), min_size=1, max_size=12), st.floats(0, 0.5))
def test_parting_layer_by_its_definition(values: list[float], margin: float) -> None:
    difference = np.array(values)
    expected = None
    for layer in range(len(values)):
        rest = difference[layer:]
        if (rest > margin).all() or (rest < -margin).all():
            expected = layer
            break
    assert parting_layer(difference, margin) == expected


def test_roles() -> None:
    one = parts()
    assert one.roles[14:17] == ("answer", "answer", "other")
    assert [one.roles.count(role) for role in ("question", "fact", "other")] == [6, 8, 46]
    inside = dataclasses.replace(one, fact=one.fact | one.answer)
    assert inside.roles[14:16] == ("answer", "answer")
