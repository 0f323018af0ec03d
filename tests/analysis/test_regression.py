"""Diagnostic regressors: planted numbers, shuffled ones, and what tokens have."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import Ridge
from sklearn.preprocessing import StandardScaler
from spacy.language import Language
from spacy.tokens import Doc

from spacy_bert.analysis import regression
from spacy_bert.analysis.regression import depth, fit, head_distance, position, regress

TRAIN, DEV = np.arange(0, 900), np.arange(900, 1200)


def planted() -> tuple[np.ndarray, np.ndarray]:
    """Vectors that do not lie around 0, and numbers linear in them, shuffled and noisy."""
    rng = np.random.default_rng(0)
    rows = rng.normal(3.0, rng.uniform(0.1, 5.0, 20), (1200, 20))
    linear = rows @ rng.normal(size=20) + 7.0
    noisy = linear + linear.std() * rng.normal(size=1200)
    return rows, np.stack([linear, rng.permutation(linear), noisy], axis=1)


def test_a_linear_number_is_found_and_a_shuffled_one_is_not() -> None:
    rows, targets = planted()
    determination, correlation = fit(rows, targets, TRAIN, DEV)
    assert determination[0] == pytest.approx(1.0, abs=1e-4)
    assert correlation[0] == pytest.approx(1.0, abs=1e-4)
    assert determination[1] == pytest.approx(0.0, abs=0.1)
    assert abs(correlation[1]) < 0.2
    assert determination[2] == pytest.approx(0.5, abs=0.1)


def test_equal_to_the_usual_ridge_regression(monkeypatch: pytest.MonkeyPatch) -> None:
    rows, targets = planted()
    monkeypatch.setattr(regression, "_BLOCK", 128)
    found, correlation = fit(rows, targets, TRAIN, DEV, ridge=30.0)
    scaler = StandardScaler().fit(rows[TRAIN])
    model = Ridge(alpha=30.0).fit(scaler.transform(rows[TRAIN]), targets[TRAIN])
    predicted = model.predict(scaler.transform(rows[DEV]))
    for place in range(3):
        gold = targets[DEV, place]
        expected = 1 - ((gold - predicted[:, place]) ** 2).sum() / ((gold - gold.mean()) ** 2).sum()
        assert found[place] == pytest.approx(expected)
        expected = np.corrcoef(gold, predicted[:, place])[0, 1]
        assert correlation[place] == pytest.approx(expected)


def test_numbers_of_tokens(nlp: Language) -> None:
    words = ["the", "dog", "keeps", " ", "order", "a", "list"]
    doc = Doc(
        nlp.vocab,
        words=words,
        heads=[1, 2, 2, 2, 2, 6, 6],
        deps=["det", "nsubj", "ROOT", "dep", "obj", "det", "ROOT"],
    )
    np.testing.assert_array_equal(depth().values(doc), [2, 1, 0, np.nan, 1, 1, 0])
    np.testing.assert_array_equal(position().values(doc), [0, 1, 2, np.nan, 4, 0, 1])
    np.testing.assert_array_equal(head_distance().values(doc), [1, 1, np.nan, np.nan, 2, 1, np.nan])
    plain = Doc(nlp.vocab, words=["a", "list"])
    assert np.isnan(depth().values(plain)).all()
    assert np.isnan(head_distance().values(plain)).all()
    np.testing.assert_array_equal(position().values(plain), [0, 1])


def test_an_encoder_knows_positions(nlp: Language) -> None:
    """It adds a vector of the position to each piece."""
    rng = np.random.default_rng(1)
    words = ["keys", "values", "list", "order", "the", "dog"]
    docs = [Doc(nlp.vocab, words=rng.choice(words, 12).tolist()) for _ in range(80)]
    done: list[int] = []
    found = regress(nlp, docs[:60], docs[60:], position(), progress=done.append)
    assert sum(done) == 80
    assert found.tokens == (720, 240)
    assert found.determination.shape == found.correlation.shape == found.control.shape == (3,)
    assert found.determination[found.best_layer] > 0.8
    assert found.control.max() < 0.1
    with pytest.raises(ValueError, match="tokens of the training Docs do not differ in depth"):
        regress(nlp, docs[:2], docs[2:4], depth())
