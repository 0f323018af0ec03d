"""Probes: each alone in a crowd, planted layers found, random vectors at the majority."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import spacy
import torch
import torch.nn.functional as F
from spacy.language import Language
from spacy.tokens import Doc, Span

import spacy_bert
from spacy_bert.analysis.probe_tasks import (
    ProbeTask,
    Target,
    chunk,
    control_labels,
    dependency,
    entity,
    find_task,
    supporting_fact,
    tag,
)
from spacy_bert.analysis.probe_training import LINEAR, ProbeRecipe, TargetSet, train_probes
from spacy_bert.analysis.probes import EdgeProbes, LinearProbes, SpanBatch, StackedAMSGrad
from spacy_bert.analysis.probing import (
    centre_of_gravity,
    divergence_from_uniform,
    expected_layer,
    probe,
    probe_work,
)
from spacy_bert.analysis.token_vectors import TokenVectors
from tests.conftest import SENTENCES

# Cumulative scores of Tenney et al. 2019 (arXiv 1905.05950), part of speech, rounded as published.
AUTHORS_POS = [88.4, 93.5, 95.0, 95.4, 96.0, 96.4, 96.4, 96.4, 96.6, 96.5, 96.6, 96.4, 96.5]


class Planted:
    """Vectors of one-token spans, in the place of those of an encoder."""

    def __init__(self, rows: np.ndarray) -> None:
        self.rows = rows
        _, self.layers, self.width = rows.shape

    def spans(self, places: Sequence[tuple[int, int, int]]) -> tuple[np.ndarray, list[int]]:
        index = [first for _, first, _ in places]
        return self.rows[index], [1] * len(index)


def planted(layer: int | None, *, layers: int = 5, count: int = 1600) -> tuple[Planted, TargetSet]:
    """Labels that stand in the vectors from a layer on, or nowhere."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, size=count) ** 2  # 0 and 1
    rows = rng.normal(size=(count, layers, 16)).astype(np.float32)
    if layer is not None:
        rows[:, layer:, :4] += 6.0 * (labels[:, None, None] - 0.5)
    targets = [Target((i, i + 1), None, (f"label {label}",)) for i, label in enumerate(labels)]
    return Planted(rows), TargetSet(targets, [0] * count)


def split(found: TargetSet, at: int) -> tuple[TargetSet, TargetSet]:
    return (
        TargetSet(found.targets[:at], found.docs[:at]),
        TargetSet(found.targets[at:], found.docs[at:]),
    )


TASK = ProbeTask(name="planted", targets=lambda doc: [])
FAST = ProbeRecipe(epochs=4, rate=1e-3)


def test_a_planted_layer_is_found() -> None:
    vectors, found = planted(3)
    train, dev = split(found, 1200)
    (scores,) = train_probes(
        vectors, TASK, FAST, ["label 0", "label 1"], [0, 1], [train], [dev], lambda _: None
    )
    assert (scores.layers[3:] > 0.97).all()
    assert (scores.layers[:3] < 0.62).all()
    found_layer = expected_layer(scores.rise)
    assert scores.mixture == scores.rise[-1]
    assert found_layer == pytest.approx(3.0, abs=0.15)
    assert scores.weights.sum() == pytest.approx(1.0)
    assert scores.weights[3:].min() > scores.weights[:3].max()


def test_linear_probes_find_what_is_linear() -> None:
    vectors, found = planted(3)
    recipe = replace(LINEAR, epochs=12)
    train, dev = split(found, 1200)
    (scores,) = train_probes(
        vectors, TASK, recipe, ["label 0", "label 1"], [0, 1], [train], [dev], lambda _: None
    )
    assert (scores.layers[3:] > 0.97).all()
    assert (scores.layers[:3] < 0.62).all()
    signs = [t._replace(labels=("label 1",)) for t in found.targets]
    for target, row in enumerate(vectors.rows[:, 4, 5] * vectors.rows[:, 4, 6]):
        signs[target] = signs[target]._replace(labels=(f"label {int(row > 0)}",))
    train, dev = split(TargetSet(signs, found.docs), 1200)
    (scores,) = train_probes(
        vectors, TASK, recipe, ["label 0", "label 1"], [0, 1], [train], [dev], lambda _: None
    )
    assert scores.layers[4] < 0.62  # the sign of a product is not linear


def test_random_vectors_give_the_majority() -> None:
    vectors, found = planted(None)
    rng = np.random.default_rng(1)
    often = [t._replace(labels=(f"label {int(rng.random() < 0.8)}",)) for t in found.targets]
    found = TargetSet(often, found.docs)
    train, dev = split(found, 1200)
    (scores,) = train_probes(
        vectors, TASK, ProbeRecipe(epochs=2), ["label 0", "label 1"], [0, 1],
        [train], [dev], lambda _: None,
    )  # fmt: skip
    share = np.mean([target.labels == ("label 1",) for target in found.targets[1200:]])
    np.testing.assert_allclose(scores.layers, share, atol=0.03)


def test_labellings_of_the_same_spans_are_learned_apart() -> None:
    vectors, found = planted(2)
    swapped = {"label 0": "label 1", "label 1": "label 0"}
    turned = [t._replace(labels=(swapped[t.labels[0]],)) for t in found.targets]
    rng = np.random.default_rng(1)
    drawn = [t._replace(labels=(f"label {rng.integers(2)}",)) for t in found.targets]
    sets = [split(TargetSet(own, found.docs), 1200) for own in (found.targets, turned, drawn)]
    scores, opposite, control = train_probes(
        vectors, TASK, FAST, ["label 0", "label 1"], [0, 1],
        [train for train, _ in sets], [dev for _, dev in sets], lambda _: None, cumulative=False,
    )  # fmt: skip
    for each in (scores, opposite):
        assert (each.layers[2:] > 0.97).all()
        assert each.mixture > 0.97
    assert control.layers.max() < 0.62
    with pytest.raises(ValueError, match="no cumulative probes"):
        scores.rise  # noqa: B018


def test_expected_layers() -> None:
    assert expected_layer(np.array(AUTHORS_POS) / 100) == pytest.approx(1.76, abs=0.02)
    assert expected_layer(np.array([0.2, 0.2, 0.2, 0.9, 0.9])) == pytest.approx(3.0)
    assert expected_layer(np.array([0.2, 0.5, 0.4, 0.6])) == pytest.approx((0.3 - 0.2 + 0.6) / 0.4)
    assert expected_layer(np.array([0.5, 0.5])) is None
    uniform = np.full(4, 0.25)
    assert centre_of_gravity(uniform) == 1.5
    assert divergence_from_uniform(uniform) == 0.0
    assert divergence_from_uniform(np.array([0.0, 1.0, 0.0, 0.0])) == pytest.approx(2.0)


def spans(rng: torch.Generator, lengths: list[int]) -> SpanBatch:
    return SpanBatch(vectors=torch.randn(sum(lengths), 3, 8, generator=rng), lengths=lengths)


@pytest.mark.parametrize("symmetric", [False, True])
def test_probes_do_not_touch_each_other(symmetric: bool) -> None:
    layers = torch.tensor([[1, 0, 0], [0, 1, 0], [1, 1, 1]]).bool()
    options = {"width": 8, "labels": 4, "pairs": True, "symmetric": symmetric}
    torch.manual_seed(0)
    together = EdgeProbes(layers, **options).eval()
    rng = torch.Generator().manual_seed(1)
    first, second = spans(rng, [1, 3, 2]), spans(rng, [2, 1, 1])
    holds = torch.tensor([[1.0, 0, 0, 0], [0, 1, 1, 0], [0, 0, 0, 1]])

    def learn(probes: EdgeProbes, steps: int = 5) -> torch.Tensor:
        optimizer = StackedAMSGrad(probes, rate=1e-2, clip=0.5)
        for _ in range(steps):
            logits = probes(first, second)
            losses = F.binary_cross_entropy_with_logits(
                logits, holds.expand_as(logits), reduction="none"
            )
            losses.mean(dim=(1, 2)).sum().backward()
            optimizer.step()
        return probes(first, second).detach()

    alone = []
    for i in range(3):
        single = EdgeProbes(layers[i : i + 1], **options).eval()
        single.load_state_dict({k: v[i : i + 1] for k, v in together.state_dict().items()})
        alone.append(learn(single))
    torch.testing.assert_close(learn(together), torch.cat(alone), atol=1e-5, rtol=1e-4)


def test_a_probe_reads_its_layers_alone() -> None:
    torch.manual_seed(0)
    layers = torch.tensor([[0, 1, 0], [1, 1, 0]]).bool()
    probes = EdgeProbes(layers, width=8, labels=2, pairs=False, symmetric=False).eval()
    batch = spans(torch.Generator().manual_seed(2), [2, 1])
    before = probes(batch)
    batch.vectors[:, 2] += 9.0
    torch.testing.assert_close(probes(batch), before)
    batch.vectors[:, 0] += 9.0
    after = probes(batch)
    torch.testing.assert_close(after[0], before[0])
    assert not torch.allclose(after[1], before[1])


def test_a_span_is_pooled_by_attention() -> None:
    torch.manual_seed(0)
    probes = EdgeProbes(torch.ones(1, 3).bool(), width=8, labels=2, pairs=False, symmetric=False)
    batch = spans(torch.Generator().manual_seed(3), [3, 1])
    projected = probes.projections[0](batch.vectors.mean(dim=1)[None])[0]
    weights = probes.scores[0](projected[None])[0, :3].softmax(dim=0)
    expected = torch.stack([(weights * projected[:3]).sum(dim=0), projected[3]])
    torch.testing.assert_close(probes._pool(batch, 0)[0], expected)


def test_a_span_of_a_linear_probe_is_its_mean() -> None:
    torch.manual_seed(0)
    probes = LinearProbes(torch.tensor([[0, 1, 0]]).bool(), width=8, labels=2, pairs=True)
    rng = torch.Generator().manual_seed(3)
    first, second = spans(rng, [3, 1]), spans(rng, [1, 2])
    logits = probes(first, second)[0]
    means = [
        torch.cat([first.vectors[:3, 1].mean(dim=0), second.vectors[0, 1]]),
        torch.cat([first.vectors[3, 1], second.vectors[1:, 1].mean(dim=0)]),
    ]
    expected = torch.stack(means) @ probes.output.weight[0] + probes.output.bias[0]
    torch.testing.assert_close(logits, expected)


def test_each_probe_has_an_optimizer_of_its_own() -> None:
    torch.manual_seed(0)
    stacked = torch.nn.ParameterList([torch.nn.Parameter(torch.randn(2, 5))])
    optimizer = StackedAMSGrad(stacked, rate=0.05, clip=2.0)
    optimizer.rates[1] = 0.01
    alone = [torch.nn.Parameter(row.detach().clone()) for row in stacked[0]]
    references = [
        torch.optim.Adam([own], lr=rate, amsgrad=True)
        for own, rate in zip(alone, (0.05, 0.01), strict=True)
    ]
    for step in range(30):
        (stacked[0].square().sum() * (1.0 + step % 7) + stacked[0].sum()).backward()
        optimizer.step()
        assert stacked[0].grad is None
        for own, reference in zip(alone, references, strict=True):
            reference.zero_grad()
            (own.square().sum() * (1.0 + step % 7) + own.sum()).backward()
            torch.nn.utils.clip_grad_norm_([own], 2.0)
            reference.step()
        torch.testing.assert_close(stacked[0].detach(), torch.stack(alone).detach())


def annotated(nlp: Language) -> list[Doc]:
    """Sentences with tags, trees, entities and chunks that follow from the words."""
    docs = []
    for text in SENTENCES * 3:
        doc = nlp.make_doc(text)
        for token in doc:
            token.tag_ = "LONG" if len(token) > 4 else "SHORT"
            token.head, token.dep_ = doc[max(token.i - 1, 0)], "next" if token.i else "root"
        doc.ents = [Span(doc, 1, 3, label="THING")]
        doc.spans["chunks"] = [Span(doc, 0, 2, label="A"), Span(doc, 2, 5, label="B")]
        docs.append(doc)
    return docs


def test_an_encoder_is_probed(nlp: Language) -> None:
    docs = annotated(nlp)
    recipe = ProbeRecipe(epochs=2, rate=1e-3)
    done: list[int] = []
    found = probe(nlp, docs[:10], docs[10:], tag(), recipe=recipe, progress=done.append)
    assert sum(done) == probe_work(docs[:10], docs[10:], tag(), recipe)
    assert found.scores.layers.shape == found.control.layers.shape == found.scores.rise.shape
    assert found.control.cumulative is None
    assert found.labels == 2
    assert found.targets == tuple(sum(map(len, part)) for part in (docs[:10], docs[10:]))
    assert 0.4 < found.majority < 0.8
    assert found.scores.layers.max() > found.majority + 0.1
    again = probe(nlp, docs[:10], docs[10:], tag(), recipe=recipe)
    np.testing.assert_array_equal(again.scores.rise, found.scores.rise)
    pairs = probe(nlp, docs[:10], docs[10:], chunk(), recipe=recipe)
    assert pairs.labels == 2
    with pytest.raises(ValueError, match="nothing to probe for 'entity'"):
        probe(nlp, [nlp.make_doc("a b")], docs, entity())
    with pytest.raises(ValueError, match="'entity' have the same label"):
        probe(nlp, docs, docs, entity())


def test_large_sets_are_read_less_often() -> None:
    assert [ProbeRecipe().passes(n) for n in (0, 10, 60_000, 100_000, 200_000)] == [3, 3, 3, 1, 1]
    assert ProbeRecipe(epochs=2).passes(200_000) == 2


def test_vectors_are_those_of_the_trace(nlp: Language) -> None:
    docs = [nlp.make_doc(text) for text in SENTENCES]
    with TokenVectors(nlp, docs) as vectors:
        assert (vectors.layers, vectors.width) == (3, 128)
        rows, lengths = vectors.spans([(2, 1, 4), (0, 0, 1)])
        assert lengths == [3, 1]
        for place, (doc, first, end) in enumerate([(2, 1, 4), (0, 0, 1)]):
            own = spacy_bert.trace(nlp, docs[doc])[first:end].hidden.transpose(1, 0, 2)
            part = rows[:3] if place == 0 else rows[3:]
            np.testing.assert_allclose(part, own, atol=2e-3)
    with pytest.raises(ValueError, match="no Docs to take vectors of"):
        vectors.rows  # noqa: B018


def test_tasks_and_controls(nlp: Language) -> None:
    doc = annotated(nlp)[0]
    assert [t.labels for t in tag().targets(doc)][:2] == [("SHORT",), ("LONG",)]
    assert dependency().targets(doc)[0] == Target((1, 2), (0, 1), ("next",))
    assert entity().targets(doc) == [Target((1, 3), None, ("THING",))]
    docs = annotated(nlp)
    targets = [chunk().targets(each) for each in docs]
    control = control_labels(docs, targets)
    assert [[t[:2] for t in own] for own in control] == [[t[:2] for t in own] for own in targets]
    by_word: dict[str, set[tuple[str, ...]]] = {}
    for each, own in zip(docs, control, strict=True):
        for target in own:
            by_word.setdefault(each[slice(*target.first)].text.lower(), set()).add(target.labels)
    assert all(len(labels) == 1 for labels in by_word.values())
    assert control == control_labels(docs, targets)
    assert control != control_labels(docs, targets, seed=1)
    assert find_task("morph:Number").name == "Number"
    with pytest.raises(ValueError, match="unknown task 'poss': there are pos, tag"):
        find_task("poss")


def test_supporting_facts(nlp: Language) -> None:
    text = "A list keeps order. A dict maps keys."
    reader = spacy.blank("en")
    doc = spacy_bert.join(reader, "What maps keys?", text)
    reader.add_pipe("sentencizer")
    doc = reader(doc)
    doc.spans["answers"] = [doc.char_span(doc.text.index("A dict"), doc.text.rindex(" maps"))]
    found = supporting_fact().targets(doc)
    assert [target.labels for target in found] == [("no",), ("yes",)]
    sentences = [doc[slice(*target.second)].text for target in found]
    assert sentences == ["A list keeps order.", "A dict maps keys."]
    assert not supporting_fact().targets(reader("No question. Two sentences."))
