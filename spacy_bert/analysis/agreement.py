"""Agreement of subject and verb, by layer and by what stands between them.

Linzen et al. 2016 (arXiv 1611.01368); by layers of BERT: Jawahar et al. 2019, section 5; the
sentences of Gulordava et al. 2018 (arXiv 1803.11138).
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from spacy.language import Language
from spacy.tokens import Doc, Token
from spacy.vocab import Vocab

from spacy_bert.analysis.sentence_probes import probe_sentences
from spacy_bert.analysis.tracing import trace
from spacy_bert.pretraining.corpus import open_text

MOST = 4  # attractors; more are rare
_NUMBERS = ("Sing", "Plur")
_COLUMNS = ("correct_number", "class", "form", "prefix", "n_attr", "sent")


class AgreementTarget(NamedTuple):
    """A verb and its subject's number.

    Attributes:
        doc: The sentence.
        verb: Place of the verb.
        number: "Sing" or "Plur".
        attractors: Nouns of the other number between subject and verb.
    """

    doc: Doc
    verb: int
    number: str
    attractors: int


@dataclass(frozen=True, kw_only=True, eq=False)
class Agreement:
    """How well the vector of a verb tells the number of its subject.

    Attributes:
        accuracy: Of each layer, by number of attractors, (layers, 5) from 0 to 4; NaN where there
            is no sentence.
        counts: Sentences by number of attractors, (5,).
        majority: Of who always says the most frequent number.
    """

    accuracy: np.ndarray
    counts: np.ndarray
    majority: float


def find_agreement(docs: Iterable[Doc]) -> Iterator[AgreementTarget]:
    """Verbs in a treebank that agree with a noun before them.

    A verb in the present tense whose form has a number (`Number` in its morph, or VBZ, VBP), with a
    noun as subject. All nouns between the two must be attractors, as in the paper; else the
    sentence is left out.

    Args:
        docs: Sentences with trees, tags and morphology.
    """
    for doc in docs:
        for verb in doc:
            if verb.tag_ not in ("VBZ", "VBP") and not verb.morph.get("Number", []):
                continue
            subject = _subject(verb)
            if subject is None or subject.i > verb.i:
                continue
            (number,) = subject.morph.get("Number", [])
            between = [
                token.morph.get("Number", [])
                for token in doc[subject.i + 1 : verb.i]
                if token.pos_ in ("NOUN", "PROPN")
            ]
            if all(found and found[0] != number for found in between):
                yield AgreementTarget(doc, verb.i, number, len(between))


def _subject(verb: Token) -> Token | None:
    """The noun whose number the verb has, if it tells its own."""
    # The auxiliary carries the number; the subject hangs on the verb that it belongs to.
    owner = verb.head if verb.dep_.startswith(("aux", "cop")) else verb
    for child in owner.children:
        is_noun = child.pos_ in ("NOUN", "PROPN")
        if child.dep_ == "nsubj" and is_noun and len(child.morph.get("Number", [])) == 1:
            return child if child.morph.get("Number", [])[0] in _NUMBERS else None
    return None


def read_gulordava(file: Path, vocab: Vocab) -> list[AgreementTarget]:
    """The sentences of Gulordava et al., original and nonsensical, with the right form of the verb.

    Args:
        file: `generated.tab`, packed or not.
        vocab: Of the Docs.

    Raises:
        ValueError: If a column is missing, or a row is malformed; names file and row.
    """
    found = []
    with open_text(file) as stream:
        rows = csv.DictReader(stream, delimiter="\t")
        if missing := [name for name in _COLUMNS if name not in (rows.fieldnames or ())]:
            raise ValueError(f"{file}: has no column {missing[0]!r}")
        for number, row in enumerate(rows, start=2):
            try:
                if row["class"] != "correct":
                    continue
                place = len(row["prefix"].split())
                words = [word for word in row["sent"].split() if word != "<eos>"]
                words[place] = row["form"]
                kind = {"sing": "Sing", "plur": "Plur"}[row["correct_number"]]
                doc = Doc(vocab, words=words)
                found.append(AgreementTarget(doc, place, kind, int(row["n_attr"])))
            except (KeyError, ValueError, IndexError, AttributeError) as error:
                raise ValueError(f"{file}, row {number}: malformed ({error!r})") from None
    return found


def probe_agreement(
    nlp: Language,
    train: Sequence[AgreementTarget],
    test: Sequence[AgreementTarget],
    *,
    epochs: int = 20,
    seed: int = 0,
    component: str | None = None,
    progress: Callable[[int], object] = lambda _: None,
) -> Agreement:
    """Train an MLP on the vectors of verbs in every layer, and score it by number of attractors.

    Args:
        nlp: A pipeline with an encoder.
        train: Verbs to learn from; a tenth of them chooses epoch and strength of L2.
        test: Verbs to score on.
        epochs: Passes over the training set.
        seed: Of weights and batches.
        component: Name of the component whose encoder is meant, if there are several.
        progress: Called with 1 for each sentence that was read.

    Raises:
        ValueError: If a set is empty.
    """
    together = [*train, *test]
    rows = []
    docs = [target.doc for target in together]
    for target, own in zip(together, trace(nlp, docs, component=component), strict=True):
        rows.append(own[target.verb].hidden[:, 0])
        progress(1)
    order = np.random.default_rng(seed).permutation(len(train))
    held = max(len(train) // 10, 1)
    found = probe_sentences(
        np.stack(rows) if rows else np.zeros((0, 1, 1), dtype=np.float32),
        [target.number for target in together],
        (order[held:].tolist(), order[:held].tolist(), range(len(train), len(together))),
        epochs=epochs,
        seed=seed,
    )
    attractors = np.array([target.attractors for target in test])
    accuracy = np.full((len(found.right), MOST + 1), np.nan)
    counts = np.zeros(MOST + 1, dtype=int)
    for count in range(MOST + 1):
        chosen = attractors == count
        counts[count] = chosen.sum()
        if counts[count]:
            accuracy[:, count] = found.right[:, chosen].mean(axis=1)
    return Agreement(accuracy=accuracy, counts=counts, majority=found.majority)
