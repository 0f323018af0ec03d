"""Ten questions about whole sentences (Conneau et al. 2018, arXiv 1805.01070), from a treebank.

The official files are read as they are. From annotated sentences the same ten are derived by the
rules in the docstrings, which follow the paper's but for constituents: the treebank's are
dependency trees.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from spacy.tokens import Doc, Token
from spacy.vocab import Vocab

from spacy_bert.pretraining.corpus import open_text

LENGTHS = ((5, 8), (9, 12), (13, 16), (17, 20), (21, 25), (26, 28))  # words; the paper's six bins
DEPTHS = (2, 7)  # of dependency trees; what is deeper or flatter counts as these
WORDS = 100  # to tell apart; the paper has 1,000, from a hundred times more sentences
FRAMES = 19  # kinds of sentences, and one for all others, as in the paper
_PARTITIONS = {"tr": "train", "va": "dev", "te": "test"}


class SentenceTarget(NamedTuple):
    """A sentence and what is asked of it.

    Attributes:
        doc: The sentence.
        label: The right answer.
    """

    doc: Doc
    label: str


def read_senteval(file: Path, vocab: Vocab) -> dict[str, list[SentenceTarget]]:
    """The sentences of an official file, by set: train, dev, test.

    Args:
        file: With lines of set (tr, va, te), label and words, between tabs; packed or not.
        vocab: Of the Docs.

    Raises:
        ValueError: If a line has another form; names file and line.
    """
    found: dict[str, list[SentenceTarget]] = {name: [] for name in _PARTITIONS.values()}
    with open_text(file) as lines:
        for number, line in enumerate(lines, start=1):
            cells = line.rstrip("\n").split("\t")
            if len(cells) != 3 or cells[0] not in _PARTITIONS or not cells[2].split():
                raise ValueError(
                    f"{file}, line {number}: expected tr, va or te, a label and a sentence, "
                    f"between tabs, got {line.strip()[:60]!r}"
                )
            doc = Doc(vocab, words=cells[2].split())
            found[_PARTITIONS[cells[0]]].append(SentenceTarget(doc, cells[1]))
    return found


def sentence_length(docs: Iterable[Doc], generator: random.Random) -> Iterator[SentenceTarget]:
    """SentLen: in which of six bins the number of words lies."""
    for doc in docs:
        for place, (low, high) in enumerate(LENGTHS):
            if low <= len(doc) <= high:
                yield SentenceTarget(doc, str(place))


def word_content(docs: Sequence[Doc], generator: random.Random) -> Iterator[SentenceTarget]:
    """WC: which one of the words of middle frequency the sentence holds."""
    counts = Counter(word for doc in docs for word in {t.lower_ for t in doc if t.is_alpha})
    frequent = [word for word, _ in counts.most_common()]
    middle = set(frequent[WORDS : 2 * WORDS])
    for doc in docs:
        held = middle.intersection(token.lower_ for token in doc)
        if len(held) == 1:
            yield SentenceTarget(doc, held.pop())


def tree_depth(docs: Iterable[Doc], generator: random.Random) -> Iterator[SentenceTarget]:
    """TreeDepth: words on the longest way from the root down; of dependency trees."""
    low, high = DEPTHS
    for doc in docs:
        depth = 1 + max(sum(1 for _ in token.ancestors) for token in doc)
        yield SentenceTarget(doc, str(min(max(depth, low), high)))


def top_frame(docs: Sequence[Doc], generator: random.Random) -> Iterator[SentenceTarget]:
    """TopConst: what stands around the root, in order: its dependents' relations.

    The paper has the constituents below the sentence; the 19 most frequent, and all others as one.
    """
    frames = [_frame(doc) for doc in docs]
    known = {frame for frame, _ in Counter(frames).most_common(FRAMES)}
    for doc, frame in zip(docs, frames, strict=True):
        yield SentenceTarget(doc, frame if frame in known else "other")


def bigram_shift(docs: Iterable[Doc], generator: random.Random) -> Iterator[SentenceTarget]:
    """BShift: whether two neighbouring words have changed places, in half of the sentences."""
    for doc in docs:
        words = [token.text for token in doc]
        places = [i for i in range(len(doc) - 1) if doc[i].is_alpha and doc[i + 1].is_alpha]
        if not places:
            continue
        shifted = generator.random() < 0.5
        if shifted:
            place = generator.choice(places)
            words[place], words[place + 1] = words[place + 1], words[place]
        yield SentenceTarget(Doc(doc.vocab, words=words), "shifted" if shifted else "as it was")


def tense(docs: Iterable[Doc], generator: random.Random) -> Iterator[SentenceTarget]:
    """Tense: present or past, of the finite verb: the root or its auxiliary (by their morph)."""
    for doc in docs:
        root = _root(doc)
        carriers = [root, *(child for child in root.children if child.dep_.startswith("aux"))]
        # Participles have a tense too, which is not the sentence's ("has been").
        finite = [one for one in carriers if "Fin" in (one.morph.get("VerbForm", []) or ["Fin"])]
        found = {value for token in finite for value in token.morph.get("Tense", [])}
        if len(found) == 1 and found <= {"Pres", "Past"}:
            yield SentenceTarget(doc, found.pop())


def subject_number(docs: Iterable[Doc], generator: random.Random) -> Iterator[SentenceTarget]:
    """SubjNum: whether the main verb's subject is singular or plural."""
    return _number(docs, ("nsubj",))


def object_number(docs: Iterable[Doc], generator: random.Random) -> Iterator[SentenceTarget]:
    """ObjNum: whether the main verb's direct object is singular or plural."""
    return _number(docs, ("obj", "dobj"))


def odd_man_out(docs: Sequence[Doc], generator: random.Random) -> Iterator[SentenceTarget]:
    """SOMO: whether a noun or verb was exchanged for another of its tag, in half of the sentences.

    The other one is drawn from the words of the same tag whose frequency is nearest.
    """
    counts = Counter((t.tag_, t.text) for doc in docs for t in doc if t.pos_ in ("NOUN", "VERB"))
    by_tag: dict[str, list[str]] = {}
    for (tag, word), _ in counts.most_common():
        by_tag.setdefault(tag, []).append(word)
    ranks = {tag: {word: i for i, word in enumerate(words)} for tag, words in by_tag.items()}
    for doc in docs:
        places = [t.i for t in doc if t.pos_ in ("NOUN", "VERB") and len(by_tag[t.tag_]) > 20]
        if not places:
            continue
        words = [token.text for token in doc]
        odd = generator.random() < 0.5
        if odd:
            token = doc[generator.choice(places)]
            rank, own = ranks[token.tag_][token.text], by_tag[token.tag_]
            near = [w for w in own[max(rank - 10, 0) : rank + 11] if w != token.text]
            words[token.i] = generator.choice(near)
        yield SentenceTarget(Doc(doc.vocab, words=words), "odd" if odd else "as it was")


def coordination_inversion(
    docs: Iterable[Doc], generator: random.Random
) -> Iterator[SentenceTarget]:
    """CoordInv: whether two coordinated clauses have changed places, in half of the sentences.

    The second clause is a verb that is a `conj` of the root with a subject of its own, with all
    below it, and must go to the end of the sentence but for punctuation.
    """
    for doc in docs:
        parts = _clauses(doc)
        if parts is None:
            continue
        first, conjunction, second, end = parts
        inverted = generator.random() < 0.5
        order = [*second, *conjunction, *first, *end] if inverted else list(range(len(doc)))
        words = [doc[i].text for i in order]
        yield SentenceTarget(Doc(doc.vocab, words=words), "inverted" if inverted else "as it was")


Derive = Callable[[Sequence[Doc], random.Random], Iterator[SentenceTarget]]

# The paper's names -> how the task is derived.
SENTENCE_TASKS: dict[str, Derive] = {
    "SentLen": sentence_length,
    "WC": word_content,
    "TreeDepth": tree_depth,
    "TopConst": top_frame,
    "BShift": bigram_shift,
    "Tense": tense,
    "SubjNum": subject_number,
    "ObjNum": object_number,
    "SOMO": odd_man_out,
    "CoordInv": coordination_inversion,
}


def derive(name: str, docs: Sequence[Doc], *, seed: int = 0) -> list[SentenceTarget]:
    """A task's sentences, from annotated ones.

    Args:
        name: One of `SENTENCE_TASKS`.
        docs: Sentences with trees, tags and morphology.
        seed: Of what is drawn.

    Raises:
        ValueError: If there is no such task, or the sentences give it nothing.
    """
    if name not in SENTENCE_TASKS:
        raise ValueError(f"unknown task {name!r}: there are {', '.join(SENTENCE_TASKS)}")
    found = list(SENTENCE_TASKS[name](docs, random.Random(seed)))
    if len({target.label for target in found}) < 2:
        raise ValueError(
            f"the {len(docs)} sentences give {name} {len(found)} targets of fewer than two labels: "
            "are trees, tags and morphology annotated?"
        )
    return found


def _root(doc: Doc) -> Token:
    return next(token for token in doc if token.head.i == token.i)


def _frame(doc: Doc) -> str:
    root = _root(doc)
    around = [token for token in (*root.children, root) if token.dep_ != "punct"]
    return " ".join(
        root.pos_ if token.i == root.i else token.dep_
        for token in sorted(around, key=lambda token: token.i)
    )


def _number(docs: Iterable[Doc], relations: Sequence[str]) -> Iterator[SentenceTarget]:
    for doc in docs:
        nouns = [
            child
            for child in _root(doc).children
            if child.dep_ in relations and child.pos_ in ("NOUN", "PROPN")
        ]
        numbers = [value for noun in nouns for value in noun.morph.get("Number", [])]
        if len(numbers) == 1 and numbers[0] in ("Sing", "Plur"):
            yield SentenceTarget(doc, numbers[0])


def _clauses(doc: Doc) -> tuple[list[int], list[int], list[int], list[int]] | None:
    """Places of the first clause, the conjunction, the second clause and the end."""
    root = _root(doc)
    for verb in root.children:
        subjects = [child for child in verb.children if child.dep_.startswith("nsubj")]
        joints = [child for child in verb.children if child.dep_ == "cc"]
        if verb.dep_ != "conj" or verb.pos_ not in ("VERB", "AUX") or not subjects or not joints:
            continue
        if not any(child.dep_.startswith("nsubj") for child in root.children):
            continue
        joint = joints[0].i
        own = {token.i for token in verb.subtree if not token.is_punct}
        last = max(own)
        end = list(range(last + 1, len(doc)))
        if min(own) != joint or any(not doc[i].is_punct for i in end):
            continue
        first = list(range(joint))
        commas = [i for i in first[-1:] if doc[i].is_punct]  # goes with the conjunction
        first = first[: len(first) - len(commas)]
        return first, [*commas, joint], list(range(joint + 1, last + 1)), end
    return None
