"""Small random BERTs as `transformers` saves them, and what it finds with them."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from spacy.language import Language
from spacy.tokens import Doc
from transformers import AutoTokenizer, BertTokenizerFast

import spacy_bert
from spacy_bert.models.encoder import encoder_shim
from spacy_bert.models.heads import head_shim
from spacy_bert.wordpiece import WordPiece
from tests.conftest import SENTENCES

TAGS = ["I-PLACE", "B-THING", "O", "B-PLACE", "I-THING"]
LABELS = ["GOOD", "BAD", "Übel"]
# Texts of one segment and of two, of several lengths and scripts.
TEXTS = [
    (SENTENCES[0],),
    ("x",),
    ("Ωμέγα, 東京 and 😀 say “no”: CAN'T (İstanbul, naïve FAÇADE).",),
    (" ".join(SENTENCES),),
    ("Does it RAIN?", SENTENCES[3]),
    (SENTENCES[2], ""),
    ("", "A list\tkeeps  values."),
]
PAIRS = [text for text in TEXTS if len(text) == 2]
CHOICES = [
    ("The quick brown fox", ["jumps over the lazy dog.", "Paris", "keeps VALUES in order."]),
    ("", ["It isn't the dog.", ""]),
    ("Naïve readers", ["said 東京."]),
]

ARCHITECTURES = {
    "bert_textcat": "BertForSequenceClassification",
    "bert_ner": "BertForTokenClassification",
    "bert_span_qa": "BertForQuestionAnswering",
    "bert_choice": "BertForMultipleChoice",
    "bert": "BertModel",
}


def make_model(path: Path, component: str, *, cased: bool = False, **config: Any) -> Path:
    """Save a random model for one of our components, with its tokenizer."""
    wordpiece = WordPiece.train(SENTENCES * 4, vocab_size=260, lowercase=not cased)
    names = {"bert_textcat": LABELS, "bert_ner": TAGS}.get(component)
    if names is not None:
        config = {"id2label": dict(enumerate(names)), **config}
    torch.manual_seed(0)
    settings = transformers.BertConfig(
        vocab_size=len(wordpiece),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        max_position_embeddings=256,
        **config,
    )
    model = getattr(transformers, ARCHITECTURES[component])(settings)
    with torch.no_grad():
        for parameter in model.parameters():  # biases, too, that are 0 in new models
            parameter.add_(torch.randn_like(parameter) * 0.2)
    model.save_pretrained(path)
    wordpiece.save(path / "vocabulary")
    tokenizer = BertTokenizerFast(str(path / "vocabulary" / "vocab.txt"), do_lower_case=not cased)
    tokenizer.save_pretrained(path)
    shutil.rmtree(path / "vocabulary")
    return path


def load_model(path: Path, component: str) -> Any:
    """The model, with all its weights from the file, and no others in it."""
    name = ARCHITECTURES[component]
    auto = name.replace("BertFor", "AutoModelFor").replace("BertModel", "AutoModel")
    model, report = getattr(transformers, auto).from_pretrained(path, output_loading_info=True)
    assert type(model).__name__ == name
    assert not any(report.values()), report
    return model.eval()


def docs(nlp: Language, component: str) -> list[Doc]:
    """The texts, run through the pipeline."""
    texts: list[tuple[str, ...]] = {"bert_span_qa": PAIRS}.get(component, TEXTS)
    if component == "bert_choice":
        texts = [(context, *choices) for context, choices in CHOICES]
    return list(nlp.pipe(spacy_bert.join(nlp, *text) for text in texts))


def ours(nlp: Language, component: str) -> list[np.ndarray]:
    """What our component finds in each text, as numbers."""
    found = docs(nlp, component)
    if component == "bert_textcat":
        return [np.array(list(doc.cats.values())) for doc in found]
    if component == "bert_choice":
        return [np.array(doc._.choice_scores) for doc in found]
    if component == "bert":
        return [doc._.trf_data.model_output.last_hidden_state[0] for doc in found]
    pipe: Any = nlp.get_pipe(component)
    scores = pipe.predict(found)
    if component == "bert_span_qa":
        return [windows.rows for windows in scores]
    # Of a border of segments there is nothing to compare.
    spaces = [np.array([token.is_space for token in doc]) for doc in found]
    return [rows[~space] for rows, space in zip(scores, spaces, strict=True)]


@torch.inference_mode()
def theirs(path: Path, nlp: Language, component: str, **options: Any) -> list[np.ndarray]:
    """What `transformers` finds, in the order of `ours`.

    Args:
        path: of the model.
        nlp: our pipeline; of it, only the texts and the places of the tokens are used.
        component: the component.
        options: "activation" of the logits of sequences.
    """
    model, tokenizer = load_model(path, component), AutoTokenizer.from_pretrained(path)
    if component == "bert_choice":
        return [
            model(**_batched(tokenizer([context] * len(texts), texts, **_PADDED)))
            .logits[0]
            .softmax(dim=0)
            .numpy()
            for context, texts in CHOICES
        ]
    texts = PAIRS if component == "bert_span_qa" else TEXTS
    # In lists: of a single text, the tokenizer takes an empty second one for none.
    encoded = [tokenizer(*([part] for part in text), return_tensors="pt") for text in texts]
    outputs = [model(**each) for each in encoded]
    if component == "bert":
        return [output.last_hidden_state[0].numpy() for output in outputs]
    if component == "bert_textcat":
        activation = options.get("activation", lambda logits: logits.softmax(dim=-1))
        return [activation(output.logits[0]).numpy() for output in outputs]
    if component == "bert_span_qa":
        pairs = [torch.stack([o.start_logits[0], o.end_logits[0]], dim=-1) for o in outputs]
        return [pair.numpy() for pair in pairs]
    places = {tag: index for index, tag in model.config.id2label.items()}
    order = [places[tag] for tag in _our_tags(nlp)]
    found = zip(docs(nlp, component), texts, outputs, strict=True)
    return [
        output.logits[0].softmax(dim=-1)[_first_pieces(tokenizer, doc, text)][:, order].numpy()
        for doc, text, output in found
    ]


_PADDED = {"return_tensors": "pt", "padding": True}


def _batched(encoded: Any) -> dict[str, torch.Tensor]:
    return {name: tensor[None] for name, tensor in encoded.items()}


def _our_tags(nlp: Language) -> list[str]:
    labels = nlp.pipe_labels["bert_ner"]
    return ["O", *(f"{action}-{label}" for label in labels for action in "BI")]


def _first_pieces(tokenizer: Any, doc: Doc, text: tuple[str, ...]) -> list[int]:
    """For each token that is no white space, the first piece that has one of its characters."""
    encoded = tokenizer(*([part] for part in text), return_offsets_mapping=True)
    shift = {0: 0, 1: len(text[0]) + 1}  # the second segment stands behind the first and a border
    offsets = [
        (index, start + shift[segment], end + shift[segment])
        for index, ((start, end), segment) in enumerate(
            zip(encoded.offset_mapping[0], encoded.sequence_ids(0), strict=True)
        )
        if segment is not None
    ]
    return [
        next(index for index, start, end in offsets if end > token.idx and start < _end(token))
        for token in doc
        if not token.is_space
    ]


def _end(token: Any) -> int:
    return int(token.idx + len(token))


def weights(nlp: Language) -> dict[str, torch.Tensor]:
    """All weights of a pipeline."""
    found = {}
    for name, pipe in nlp.pipeline:
        shim = encoder_shim(pipe.model) if name == "bert" else head_shim(pipe.model)
        found.update({f"{name}.{key}": value for key, value in shim.module.state_dict().items()})
    return found


def assert_same_weights(one: Language, other: Language) -> None:
    """Equal to the bit."""
    first, second = weights(one), weights(other)
    assert first.keys() == second.keys()
    for name in first:
        assert torch.equal(first[name], second[name]), name


def assert_close(one: list[np.ndarray], other: list[np.ndarray]) -> None:
    """Equal but for rounding."""
    assert len(one) == len(other)
    for first, second in zip(one, other, strict=True):
        np.testing.assert_allclose(first, second, atol=1e-5, rtol=0)
