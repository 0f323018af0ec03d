"""Erasure: equal to texts and networks that are changed by hand, in batches or not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from spacy_bert.analysis import erasure
from spacy_bert.analysis.decisions import annotated, decisions_of
from spacy_bert.analysis.erasure import erase_dimensions, erase_words, relative_drops
from spacy_bert.bert import BertModel, PackedBatch
from spacy_bert.bert.edits import Edits
from spacy_bert.models.intervention import Intervention
from tests.analysis.tasks import KINDS, Task, copied, task

HOW = ("mask", "zero")


def likelihoods(one: Task, intervention: Intervention | None = None) -> np.ndarray:
    examples, gold = annotated(one.head, one.examples)
    docs = [example.predicted for example in examples]
    outputs = one.head.outputs(docs, one.head.encode(docs, intervention))
    decisions = decisions_of(one.head)
    return np.array([decisions.log_likelihood(o, g) for o, g in zip(outputs, gold, strict=True)])


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("kind", KINDS)
def test_every_head_and_decision(kind: str, how: str, checkpoint: Path) -> None:
    one = task(kind, checkpoint)
    plain = likelihoods(one)
    seen: list[int] = []
    found = list(erase_words(one.nlp, one.examples, how=how, progress=seen.append))
    assert sum(seen) == len(one.examples)
    examples, _ = annotated(one.head, one.examples)
    for each, example, expected in zip(found, examples, plain, strict=True):
        assert each.words == tuple(token.text for token in example.predicted)
        assert each.log_likelihood == pytest.approx(expected, abs=1e-5)
        spaces = [token.is_space for token in example.predicted]
        np.testing.assert_array_equal(np.isnan(each.drops), spaces)
    assert max(np.nanmax(np.abs(each.drops)) for each in found) > 1e-4


def test_a_masked_word_is_a_text_with_mask(checkpoint: Path) -> None:
    one = task("exclusive", checkpoint)
    text = "The fox jumps."  # every word is one piece, or the mask would not fit
    doc = one.nlp.make_doc(text)
    (layout,) = one.head.shim.lay_out([doc])
    (found,) = erase_words(one.nlp, [doc])
    decisions, wordpiece = decisions_of(one.head), one.head.shim.wordpiece
    (output,) = one.head.outputs([doc], one.head.encode([doc]))
    own = decisions.own(doc, output)
    for token in doc:
        ids = layout.pieces.copy()
        inside = (layout.offsets[:, 0] < token.idx + len(token)) & (
            layout.offsets[:, 1] > token.idx
        )
        ids[inside] = wordpiece.mask_id
        with torch.inference_mode():
            hidden = one.head.shim.network(PackedBatch.from_sequences([ids.tolist()]))
        (data,) = one.head.encode([doc])
        data.model_output.last_hidden_state[:] = hidden.last_hidden_state.numpy()[None]
        (changed,) = one.head.outputs([doc], [data])
        drop = decisions.log_likelihood(output, own) - decisions.log_likelihood(changed, own)
        assert found.drops[token.i] == pytest.approx(drop, abs=1e-5)


@pytest.mark.parametrize("how", HOW)
def test_a_batch_equals_one_by_one(
    how: str, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = task("exclusive", checkpoint)  # the first Doc is read in several windows
    together = list(erase_words(one.nlp, one.examples[:3], how=how))
    monkeypatch.setattr(erasure, "PIECES", 1)
    alone = list(erase_words(one.nlp, one.examples[:3], how=how))
    for first, second in zip(together, alone, strict=True):
        np.testing.assert_allclose(first.drops, second.drops, atol=1e-5)


def test_a_head_that_reads_nothing_loses_nothing(checkpoint: Path) -> None:
    one = task("exclusive", checkpoint)
    nlp = copied(one.nlp)
    with torch.no_grad():
        model = nlp.get_pipe(one.component).model
        model.get_ref("head").shims[0].module.output.weight.zero_()
    for found in erase_words(nlp, one.examples):
        np.testing.assert_allclose(found.drops, 0.0, atol=1e-7)
    assert np.allclose(erase_dimensions(nlp, one.examples[:2], dimensions=[0, 1]).drops, 0.0)


@pytest.mark.parametrize("layer", [0, 1, 2])
@pytest.mark.parametrize("kind", ["exclusive", "qa"])
def test_dimensions_equal_to_edited_states(kind: str, layer: int, checkpoint: Path) -> None:
    one = task(kind, checkpoint)
    found = erase_dimensions(one.nlp, one.examples, layer=layer, dimensions=[3, 70])
    plain = likelihoods(one)
    np.testing.assert_allclose(found.log_likelihoods, plain, atol=1e-5)
    for column, dimension in enumerate(found.dimensions):

        def erase(states: Tensor, dimension: int = dimension) -> Tensor:
            changed = states.clone()
            changed[:, dimension] = 0.0
            return changed

        def run(network: BertModel, batch: PackedBatch, windows: np.ndarray) -> Tensor:
            return network(batch, edits=Edits(states={layer: erase})).last_hidden_state

        drops = plain - likelihoods(one, Intervention(run=run))
        assert found.drops[column] == pytest.approx(drops.mean(), abs=1e-5)
        assert found.relative[column] == pytest.approx((drops / -plain).mean(), rel=1e-2, abs=1e-4)


def test_all_dimensions_of_the_last_layer(checkpoint: Path) -> None:
    one = task("regression", checkpoint)
    seen: list[int] = []
    found = erase_dimensions(one.nlp, one.examples[:3], progress=seen.append)
    assert found.layer == 2
    assert found.drops.shape == found.relative.shape == (128,)
    assert sum(seen) == 128 * 3


def test_own_decisions_of_texts(checkpoint: Path) -> None:
    one = task("exclusive", checkpoint)
    texts = [example.predicted.text for example in one.examples[:2]]
    found = list(erase_words(one.nlp, [*texts, ""]))
    assert len(found) == 2
    for each, text in zip(found, texts, strict=True):
        best = max(one.nlp(text).cats.values())
        assert each.log_likelihood == pytest.approx(np.log(best), abs=1e-5)


def test_relative_drops_where_the_likelihood_is_one() -> None:
    np.testing.assert_allclose(relative_drops(-2.0, np.array([1.0, -1.0])), [0.5, -0.5])
    assert np.isnan(relative_drops(0.0, np.array([1.0]))).all()
    mixed = relative_drops(np.array([[-1.0], [0.0]]), np.array([[2.0], [2.0]]))
    np.testing.assert_array_equal(mixed, [[2.0], [np.nan]])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layer": 3}, "there is no layer 3: 0 is the embeddings, 2 the last"),
        ({"dimensions": [128]}, "dimensions must be some of 0 to 127"),
        ({"dimensions": []}, "dimensions must be some of"),
    ],
)
def test_layers_and_dimensions_that_are_not_there(
    options: dict, message: str, checkpoint: Path
) -> None:
    one = task("exclusive", checkpoint)
    with pytest.raises(ValueError, match=message):
        erase_dimensions(one.nlp, one.examples, **options)


def test_nothing_to_erase(checkpoint: Path) -> None:
    one = task("exclusive", checkpoint)
    with pytest.raises(ValueError, match="no Doc about which 'bert_textcat' could decide"):
        erase_dimensions(one.nlp, [""])
    with pytest.raises(ValueError, match='how must be "mask" or "zero", got \'drop\''):
        erase_words(one.nlp, ["A dog."], how="drop")
