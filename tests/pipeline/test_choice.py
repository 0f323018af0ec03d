"""The component `bert_choice`."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import spacy
import torch
from spacy.language import Language
from spacy.tokens import Doc
from spacy.training import Example
from spacy_transformers.data_classes import TransformerData
from thinc.types import Ragged
from transformers import BertForMultipleChoice

import spacy_bert
from spacy_bert.bert import BertConfig, BertForPreTraining, save_pretrained
from spacy_bert.models.encoder import encoder_shim
from spacy_bert.models.heads import head_shim
from spacy_bert.models.optimizer import build_adamw
from spacy_bert.models.pooling import pool_pairs
from spacy_bert.wordpiece import WordPiece
from tests.conftest import SENTENCES
from tests.pipeline.endings import ENDINGS, choice_pipeline, docs, examples, gold

# Learning


def test_learns_choices_of_any_number(chooser: Language) -> None:
    assert chooser.evaluate(examples(chooser))["choice_acc"] == 1.0
    for doc, (_, choices, right) in zip(chooser.pipe(docs(chooser)), ENDINGS, strict=True):
        assert doc._.choice == right
        assert len(doc._.choice_scores) == len(choices)
        assert sum(doc._.choice_scores) == pytest.approx(1.0)
        assert doc._.choice_scores[right] == max(doc._.choice_scores) > 0.8


def test_choose(chooser: Language) -> None:
    context, choices, right = ENDINGS[4]
    index, probabilities = spacy_bert.choose(chooser, context, choices)
    assert index == right
    (doc,) = chooser.pipe([spacy_bert.join(chooser, context, *choices)])
    assert probabilities == pytest.approx(doc._.choice_scores)
    assert spacy_bert.choose(chooser, context, choices[::-1])[0] == len(choices) - 1 - right
    assert spacy_bert.choose(chooser, context, tuple(choices))[0] == right
    assert len(spacy_bert.choose(chooser, "", choices)[1]) == len(choices)
    with pytest.raises(ValueError, match=r'no component "bert_choice", .* .it has none.: add one'):
        spacy_bert.choose(spacy.blank("en"), context, choices)
    with chooser.select_pipes(disable=["bert_choice"]), pytest.raises(ValueError, match="enable"):
        spacy_bert.choose(chooser, context, choices)


@pytest.mark.parametrize(
    ("context", "choices", "message"),
    [
        ("Why?", [], "ValueError: there must be two choices at least: {call}, got 0"),
        ("Why?", ["light."], "ValueError: there must be two choices at least: {call}, got 1"),
        ("Why?", ["light.", " "], "ValueError: choice 2 is empty: {call}"),
        ("Why?", ["light.", None], "TypeError: choice 2 must be a text: {call}, got a NoneType"),
        ("Why?", "light.", "TypeError: the choices must be a list: {call}, got a str"),
        ("Why?", 2, "TypeError: the choices must be a list: {call}, got a int"),
        (None, ["a", "b"], "TypeError: the context must be a text: {call}, got a NoneType"),
    ],
)
def test_choose_says_what_it_lacks(
    chooser: Language, context: str, choices: list[str], message: str
) -> None:
    with pytest.raises((TypeError, ValueError)) as caught:
        spacy_bert.choose(chooser, context, choices)
    call = "choose(nlp, context, [first, second])"
    assert f"{caught.type.__name__}: {caught.value}" == message.format(call=call)


def test_choose_and_join_want_the_pipeline_first() -> None:
    with pytest.raises(TypeError, match=r"the pipeline: choose\(nlp, .*, got a str$"):
        spacy_bert.choose("Why?", ["a", "b"], "c")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"^join takes the pipeline first: .*, got a str$"):
        spacy_bert.join("first", "second")  # type: ignore[arg-type]


# Parity


def reference(checkpoint: Path, nlp: Language) -> BertForMultipleChoice:
    """Hugging Face's network with the weights of a pipeline, after drawing larger ones."""
    theirs = BertForMultipleChoice.from_pretrained(checkpoint).eval()
    head = head_shim(nlp.get_pipe("bert_choice").model).module
    with torch.no_grad():
        theirs.classifier.weight.copy_(head.output.weight.normal_(generator=torch.manual_seed(1)))
        theirs.classifier.bias.copy_(head.output.bias.normal_())
    return theirs


def test_logits_loss_and_gradient_equal_hugging_face(checkpoint: Path) -> None:
    """The pooler is not copied here: it must have been taken over from the checkpoint."""
    nlp, choice = choice_pipeline(checkpoint, loss_weight=2.0)
    nlp.initialize(lambda: examples(nlp))
    theirs = reference(checkpoint, nlp)
    wordpiece = WordPiece.load(checkpoint)
    golds = examples(nlp)
    scores = choice.predict([nlp.get_pipe("bert")(eg.predicted) for eg in golds])
    assert scores.lengths.tolist() == [len(choices) for _, choices, _ in ENDINGS]
    loss, gradient = choice.get_loss(golds, scores)
    losses, logits, gradients = [], [], []
    for context, choices, right in ENDINGS:
        rows, kinds = [], []
        for text in choices:
            first, second = (encoded.ids.tolist() for encoded in wordpiece.encode([context, text]))
            row = [wordpiece.cls_id, *first, wordpiece.sep_id, *second, wordpiece.sep_id]
            rows.append(torch.tensor(row))
            kinds.append(torch.tensor([0] * (len(first) + 2) + [1] * (len(second) + 1)))
        pad = torch.nn.utils.rnn.pad_sequence
        out = theirs(
            input_ids=pad(rows, batch_first=True)[None],
            token_type_ids=pad(kinds, batch_first=True)[None],
            attention_mask=pad([torch.ones_like(row) for row in rows], batch_first=True)[None],
            labels=torch.tensor([right]),
        )
        losses.append(out.loss.item())
        logits.append(out.logits[0].detach())
        gradients.append(out.logits[0].detach().softmax(dim=0))
        gradients[-1][right] -= 1.0
    np.testing.assert_allclose(scores.dataXd[:, 0], torch.cat(logits), atol=1e-5)
    assert loss == pytest.approx(2.0 * np.mean(losses), rel=1e-5)
    np.testing.assert_allclose(
        gradient.dataXd[:, 0], torch.cat(gradients) * 2.0 / len(ENDINGS), atol=1e-6
    )


# Long texts


@pytest.mark.parametrize("slide", ["first", "last"])
def test_each_choice_has_the_mean_over_its_own_windows(checkpoint: Path, slide: str) -> None:
    nlp, choice = choice_pipeline(checkpoint, encoder={"slide": slide, "stride": 20})
    nlp.initialize(lambda: examples(nlp))
    long, other, short = " ".join(SENTENCES), " ".join(SENTENCES[::-1]), "The fox."
    texts = [short, long, "Paris", other] if slide == "last" else [long, short, "Paris", ""]
    doc = nlp.get_pipe("bert")(spacy_bert.join(nlp, *texts))
    data = doc._.trf_data
    counts = np.bincount(data.pairs)
    assert (counts[0] > 1) if slide == "last" else (counts > 1).all()
    assert slide == "first" or counts[1] == 1
    wordpiece = WordPiece.load(checkpoint)
    context, *choices = (
        [wordpiece.tokens[i] for i in encoded.ids] for encoded in wordpiece.encode(texts)
    )
    strings, lengths = data.wordpieces.strings, data.wordpieces.lengths
    for pair, row, length in zip(data.pairs, strings, lengths, strict=True):
        border = row.index("[SEP]")
        first, second = row[1:border], row[border + 1 : length - 1]
        whole, part = (first, second) if slide == "last" else (second, first)
        assert whole == (context if slide == "last" else choices[pair])
        assert " ".join(part) in " ".join(choices[pair] if slide == "last" else context)
    (tok2vec, _) = choice.model.layers
    vectors = tok2vec.predict([doc])
    cls = data.model_output.last_hidden_state[:, 0]
    expected = [cls[data.pairs == pair].mean(axis=0) for pair in range(3)]
    np.testing.assert_allclose(vectors.dataXd, expected, atol=1e-6)
    assert vectors.lengths.tolist() == [3]


def test_a_choice_scores_the_same_among_any_others(chooser: Language) -> None:
    """The odds of two choices do not depend on what else there is to choose."""
    context, long = "A list", " ".join(SENTENCES)
    two = chooser(spacy_bert.join(chooser, context, "keeps order.", long))._.choice_scores
    many = [long, "", "keeps order.", "It is.", long, "In Paris."]
    all_ = chooser(spacy_bert.join(chooser, context, *many))._.choice_scores
    assert all_[0] == pytest.approx(all_[4], rel=1e-4)
    assert math.log(all_[2] / all_[0]) == pytest.approx(math.log(two[0] / two[1]), abs=1e-3)


def test_long_texts_can_be_trained_on(checkpoint: Path) -> None:
    nlp, _ = choice_pipeline(checkpoint, encoder={"slide": "first", "max_batch_pieces": 256})
    eg = gold(nlp, " ".join(SENTENCES * 20), ["Paris.", "The fox."], 1)
    torch.manual_seed(0)
    optimizer = nlp.initialize(lambda: [eg], sgd=build_adamw(1e-3))
    losses = [nlp.update([eg], sgd=optimizer, losses={})["bert_choice"] for _ in range(8)]
    assert losses[-1] < losses[0] < 1.5


# What is not annotated, and gradients


def unlabelled(nlp: Language, *parts: str) -> Example:
    text = "\x1e".join(parts)
    return Example(nlp.make_doc(text), nlp.make_doc(text))


def test_only_annotated_docs_count(checkpoint: Path) -> None:
    nlp, choice = choice_pipeline(checkpoint)
    nlp.initialize(lambda: examples(nlp))
    two, four = examples(nlp)[1], examples(nlp)[4]
    unknown = [
        unlabelled(nlp, "A list", "keeps", "jumps"),
        unlabelled(nlp, ""),
        unlabelled(nlp, " "),
        unlabelled(nlp, "no choices"),
    ]
    batch = [unknown[0], two, *unknown[1:3], four, unknown[3]]
    scores, _ = choice.model.begin_update([nlp.get_pipe("bert")(eg.predicted) for eg in batch])
    assert scores.lengths.tolist() == [2, 2, 0, 1, 4, 1]
    loss, gradient = choice.get_loss(batch, scores)
    rows = [2, 3, 5, 6, 7, 8]
    alone = Ragged(scores.dataXd[rows], np.array([2, 4]))
    expected, expected_gradient = choice.get_loss([two, four], alone)
    assert loss == pytest.approx(expected) != 0.0
    np.testing.assert_allclose(gradient.dataXd[rows], expected_gradient.dataXd)
    assert not np.delete(gradient.dataXd, rows, axis=0).any()
    assert nlp.update(unknown, losses={}, sgd=build_adamw(1e-4))["bert_choice"] == 0.0
    assert nlp.evaluate([unknown[0]])["choice_acc"] is None


def test_gradients_reach_the_encoder_as_autograd_says(checkpoint: Path) -> None:
    """A step against the gradient lowers the loss by the gradient's squared norm."""
    nlp, choice = choice_pipeline(checkpoint, encoder={"stride": 20})
    golds = [*examples(nlp), gold(nlp, "A fox", ["In Paris.", " ".join(SENTENCES)], 1)]
    nlp.initialize(lambda: golds)
    nlp.update(golds, sgd=False)  # type: ignore[arg-type] - no optimizer: the gradients stay
    shims = [encoder_shim(nlp.get_pipe("bert").model), head_shim(choice.model)]
    for shim in shims:
        shim.finish_late_gradient()
    parameters = [p for shim in shims for p in shim.module.parameters() if p.grad is not None]
    squared = sum(float(p.grad.square().sum()) for p in parameters)
    gradients = [p.grad.clone() for p in parameters]

    def loss_after(step: float) -> float:
        with torch.no_grad():
            for parameter, gradient in zip(parameters, gradients, strict=True):
                parameter.add_(gradient, alpha=-step)
        predicted = [nlp.get_pipe("bert")(eg.predicted) for eg in golds]
        loss, _ = choice.get_loss(golds, choice.predict(predicted))
        with torch.no_grad():
            for parameter, gradient in zip(parameters, gradients, strict=True):
                parameter.add_(gradient, alpha=step)
        return loss

    step = 1e-2 / math.sqrt(squared)
    slope = (loss_after(-step) - loss_after(step)) / (2 * step)
    assert slope == pytest.approx(squared, rel=0.02)


# Odd Docs and errors


def test_empty_and_blank_choices(chooser: Language) -> None:
    for parts in (("Who?", "", "me"), ("", "", ""), ("Who?", " \n", ""), ("a", "")):
        doc = chooser(spacy_bert.join(chooser, *parts))
        assert len(doc._.choice_scores) == len(parts) - 1
        assert sum(doc._.choice_scores) == pytest.approx(1.0)
    same = chooser(spacy_bert.join(chooser, "", "", ""))
    assert same._.choice_scores == pytest.approx([0.5, 0.5])
    choice = chooser.get_pipe("bert_choice")
    nothing = choice.predict([])
    assert nothing.dataXd.shape == (0, 1)
    choice.set_annotations([], nothing)
    assert list(chooser.pipe([])) == []


def test_what_has_no_choices_is_passed_over_with_a_warning(chooser: Language) -> None:
    chosen, _ = docs(chooser)[:2]
    expected = chooser(chosen.copy())._.choice_scores
    texts = [chooser.make_doc(text) for text in ("It rains.", "", " ")]
    with pytest.warns(UserWarning, match=r"bert_choice\] passes over Docs without choices: .*join"):
        plain, empty, space, found = chooser.pipe([*texts, chosen])
    for doc in (plain, empty, space):
        assert doc._.choice is None
        assert doc._.choice_scores == []
    assert found._.choice_scores == pytest.approx(expected, abs=1e-5)
    mixed = [Example(doc.copy(), doc) for doc in map(chooser.make_doc, ("It rains.", ""))]
    with pytest.warns(UserWarning, match="without choices"):
        assert chooser.evaluate([*examples(chooser), *mixed])["choice_acc"] == 1.0


def test_training_data_without_a_right_choice_are_refused(chooser: Language) -> None:
    plain = [Example(doc.copy(), doc) for doc in docs(chooser)]
    with pytest.raises(
        ValueError, match=r"^\[components.bert_choice\] there is nothing to learn: no tr"
    ):
        chooser.get_pipe("bert_choice").initialize(lambda: plain, nlp=chooser)


@pytest.mark.parametrize(
    ("choices", "cats", "message"),
    [
        (["a"], {"0": 1.0}, r"has doc.cats but 1 of the two choices or more that learning needs"),
        ([], {"0": 1.0}, r"has doc.cats but 0 of the two choices or more .*: use spacy_bert.join"),
        (["a", "b"], {"0": 0.0, "1": 0.0, "2": 1.0}, r"has 2 choices, but doc.cats names '2': its"),
        (["a", "b"], {"GOOD": 1.0}, r".* names 'GOOD': .* indices of the choices, .0. to .1."),
        (["a", "b"], {"00": 1.0}, r"has 2 choices, but doc.cats names '00'"),
        (["a", "b"], {"-1": 1.0}, r"has 2 choices, but doc.cats names '-1'"),
        (["a", "b", "c"], {"0": 1.0, "2": 1.0}, r"has 2 right choices in doc.cats \(0, 2\): give"),
        (["a", "b"], {"0": 0.0, "1": 0.0}, r"has 0 right choices in doc.cats \(none\): give the"),
    ],
)
def test_wrong_gold_stops_training_and_scoring(
    saved_chooser: Path, choices: list[str], cats: dict[str, float], message: str
) -> None:
    nlp = spacy.load(saved_chooser)
    doc = spacy_bert.join(nlp, "Which one?", *choices)
    doc.cats = cats
    eg = Example(nlp.make_doc(doc.text), doc)
    for use in (lambda: nlp.update([eg]), lambda: nlp.get_pipe("bert_choice").score([eg])):
        with pytest.raises(ValueError, match=rf"^the Doc 'Which one\?.*' {message}") as caught:
            use()
        assert "\n" not in str(caught.value)


def test_a_gold_choice_alone_will_do(chooser: Language) -> None:
    doc = spacy_bert.join(chooser, ENDINGS[0][0], *ENDINGS[0][1])
    doc.cats = {"0": 1.0}
    assert chooser.evaluate([Example(chooser.make_doc(doc.text), doc)])["choice_acc"] == 1.0
    doc.cats = {"1": 1.0}
    assert chooser.evaluate([Example(chooser.make_doc(doc.text), doc)])["choice_acc"] == 0.0


def test_who_has_not_chosen_is_wrong(chooser: Language) -> None:
    choice = chooser.get_pipe("bert_choice")
    assert choice.score(examples(chooser))["choice_acc"] == 0.0
    chosen = [Example(chooser(eg.predicted), eg.reference) for eg in examples(chooser)[:2]]
    assert choice.score([*chosen, *examples(chooser)[2:4]])["choice_acc"] == 0.5


def test_an_encoder_is_needed_and_ours(checkpoint: Path, saved_chooser: Path) -> None:
    alone = spacy.blank("en")
    alone.add_pipe("bert_choice")
    with pytest.raises(ValueError, match=r"^\[components.bert_choice\] listens to any .bert."):
        alone.initialize()
    foreign = spacy.blank("en")
    foreign.add_pipe("transformer", config={"model": {"name": str(checkpoint)}})
    foreign.add_pipe("bert_choice")
    with pytest.raises(ValueError, match=r"reads pairs .*, which only spacy_bert.Encoder.v1 lays"):
        foreign.initialize()
    nlp = spacy.load(saved_chooser)
    with pytest.raises(ValueError, match=r"'bert_choice' reads what the shared encoder leaves"):
        nlp(docs(nlp)[0], disable=["bert"])
    doc = nlp(docs(nlp)[0])
    doc._.trf_data = TransformerData.empty().from_bytes(doc._.trf_data.to_bytes())
    with pytest.raises(ValueError, match=r"'bert_choice' cannot tell where the pieces"):
        nlp(doc, disable=["bert"])


def test_a_left_to_right_encoder_is_read_at_its_last_piece(
    tmp_path: Path, wordpiece: WordPiece
) -> None:
    config = BertConfig.preset(
        "tiny", vocab_size=len(wordpiece), max_position_embeddings=64, is_decoder=True
    )
    save_pretrained(BertForPreTraining(config), tmp_path)
    wordpiece.save(tmp_path)
    nlp, _ = choice_pipeline(tmp_path)
    with pytest.raises(ValueError, match=r"bert_choice.model.tok2vec\] piece = .last."):
        nlp.initialize(lambda: examples(nlp))
    listener = {"@architectures": "spacy_bert.PairListener.v1", "piece": "last"}
    nlp, _ = choice_pipeline(tmp_path, model={"tok2vec": listener})
    torch.manual_seed(0)
    optimizer = nlp.initialize(lambda: examples(nlp), sgd=build_adamw(1e-3))
    for _ in range(40):
        losses = nlp.update(examples(nlp), sgd=optimizer, losses={})
    assert losses["bert_choice"] < 0.3  # from [CLS] alone it could not fall below ln 2


def test_wrong_settings_are_refused(checkpoint: Path) -> None:
    with pytest.raises(
        ValueError, match=r"^\[components.bert_choice\] loss_weight must be above 0, got 0.0"
    ):
        choice_pipeline(checkpoint, loss_weight=0.0)
    with pytest.raises(ValueError, match=r"^piece must be .first. .* or .last. .*, got 'x'"):
        pool_pairs("x")  # type: ignore[arg-type]


def test_without_weights_there_is_an_error(checkpoint: Path) -> None:
    nlp, _ = choice_pipeline(checkpoint)
    doc: Doc = docs(nlp)[0]
    with pytest.raises(ValueError, match=r"not initialized: call nlp.initialize"):
        nlp(doc)
