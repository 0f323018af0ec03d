"""A question-answering set derived from Python's documentation.

Docstrings say in a few set phrases what is returned, when an exception is raised, what a parameter
is and what follows from its value. Each phrase gives a question and the words that answer it:

    RETURN     "Return the name of the file."         -> What does f return?
    RAISE      "ValueError is raised if x is absent." -> When does f raise ValueError?
    PARAMETER  "mode: how the file is opened"         -> What is mode?
    CONDITION  "If key is None, items are compared."  -> What happens if key is None?
    NONE       a question of the same form about what the text does not say

A Doc is a question joined to a passage: sentences of one docstring that follow each other. Most
passages have several questions, so that a system which does not read the question cannot tell
which words to give; those of NONE must be left unanswered.

The questions are *derived*, not asked by people: few forms, and words of the text in them. Scores
mean something only beside each other's. Train, dev and test share no module.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spacy_bert.datasets.areas import SPLITS
from spacy_bert.files import replacing

if TYPE_CHECKING:
    from spacy.tokens import Doc

    from spacy_bert.datasets.pydocs import Docstring, Document

RETURN, RAISE, PARAMETER, CONDITION, NONE = KINDS = (
    "RETURN",
    "RAISE",
    "PARAMETER",
    "CONDITION",
    "NONE",
)

# Two ways to ask, one of which shares no verb with the text.
FORMS = {
    RETURN: ("What does {name} return?", "What is the result of {name}?"),
    RAISE: ("When does {name} raise {error}?", "What makes {name} fail with {error}?"),
    PARAMETER: ("What is the parameter {parameter}?", "What does {name} take as {parameter}?"),
    CONDITION: (
        "What happens if {parameter} {value}?",
        "What does {name} do when {parameter} {value}?",
    ),
}

MAX_PASSAGE = 80  # words: question and passage nearly always fit a window of 128 pieces
MAX_ANSWER = 20  # words
SILENT_SHARE = 5  # of so many passages without a question, one has one that it does not answer
ERRORS = ("ValueError", "TypeError", "KeyError", "OSError", "IndexError", "RuntimeError")

_ERROR = r"(?P<error>[A-Z]\w*(?:Error|Exception|Warning|Iteration|Interrupt|Exit|Empty|Full))"
_WHEN = r"(?:if|when|whenever|unless|in case)"
_RETURNED = [
    re.compile(r"^Returns?:? (?P<answer>.+)"),
    re.compile(r"^(?:It|This|This \w+) returns (?P<answer>.+)"),
]
_RAISED = [
    re.compile(rf"\b[Rr]aises?(?: an?| the)? {_ERROR}(?: exception)?,? {_WHEN} (?P<answer>.+)"),
    re.compile(rf"^{_ERROR}(?::| --?)(?: [Ii]f| [Ww]hen)? (?P<answer>.+)"),
    re.compile(
        rf"\b{_ERROR}(?: exception)? (?:is|will be|may be) (?:raised|thrown) {_WHEN} (?P<answer>.+)"
    ),
    re.compile(
        rf"^(?:If|When) (?P<answer>[^,]+), (?:then )?(?:an? )?{_ERROR}(?: exception)?"
        r" (?:is|will be) (?:raised|thrown)"
    ),
    re.compile(
        rf"^(?:If|When) (?P<answer>[^,]+), (?:it |this |then |will )*raises? (?:an? )?{_ERROR}"
    ),
]
_DESCRIBED = re.compile(
    r"^(?P<parameter>\w+)(?::| --?| is| are| specifies| gives| contains| indicates"
    r"| must be| should be| can be| may be) (?P<answer>.+)"
)
_FOLLOWS = re.compile(
    r"^(?:If|When) (?:the )?(?P<parameter>\w+)(?: argument| parameter)?"
    r" (?P<value>(?:is|are) [^,()]{2,40}?)(?: \([^()]*\))?, (?:then )?(?P<answer>.+)"
)
# Where an answer ends, if not with its sentence.
_END = re.compile(
    r";|[.:]\s|[.:]$|,? or raises?\b|,? and raises?\b|, otherwise\b|, else\b|, but\b|, unless\b"
    r"|, (?=\w+ (?:is|are) )"
)
_ASIDE = re.compile(r"(?<=\w) \([^()]*\)?$")  # parentheses that close an answer
_PROPERTY = re.compile(r"(True|False|Whether|An?|The) ")  # says what it gives, without a verb
_LETTER = re.compile(r"[^\W\d_]")


@dataclass(frozen=True)
class Question:
    """A question about a passage.

    Attributes:
        text: The question.
        passage: Sentences of one docstring.
        answers: Where each answer starts in the passage, and its text; empty if there is none.
        kind: One of `KINDS`.
        module: The module that the passage documents.
    """

    text: str
    passage: str
    answers: tuple[tuple[int, str], ...]
    kind: str
    module: str


def passages(document: Document) -> Iterator[str]:
    """The sentences of a document, as texts of at most `MAX_PASSAGE` words, no sentence cut."""
    group: list[str] = []
    words = 0
    for sentence in document.sentences:
        count = len(sentence.split())
        if group and words + count > MAX_PASSAGE:
            yield " ".join(group)
            group, words = [], 0
        group.append(sentence)
        words += count
    if group:
        yield " ".join(group)


def questions(document: Document) -> Iterator[Question]:
    """The questions about a function, method or class; none about a module or a topic."""
    docstring = document.docstring
    if docstring is None or not docstring.name:
        return
    for passage in passages(document):
        found = list(_answered(docstring, passage, document.sentences))
        yield from found
        # One in three questions has no answer; and passages that answer nothing have some too.
        draw = _hash(passage)
        if len(found) > 1 or (found and draw // 2 % 2) or draw % SILENT_SHARE == 0:
            yield from _unanswered(docstring, passage, draw)


def question_texts(
    documents: Iterable[Document], splits: dict[str, str]
) -> dict[str, list[Question]]:
    """The questions of every split, none of them twice; modules without a split are for training.

    A passage that stands in several modules is read for the first of them alone.
    """
    modules: dict[str, str] = {}
    seen: set[tuple[str, str]] = set()
    found: dict[str, list[Question]] = {name: [] for name in SPLITS}
    for document in documents:
        for question in questions(document):
            passage = question.passage.lower()
            key = (question.text, passage)
            if key not in seen and modules.setdefault(passage, question.module) == question.module:
                seen.add(key)
                found[splits.get(document.source, "train")].append(question)
    return found


def write_question_docbins(
    splits: dict[str, list[Question]], directory: Path
) -> dict[str, dict[str, Any]]:
    """Write `train.spacy`, `dev.spacy` and `test.spacy`: Docs for `bert_span_qa`.

    Returns:
        For every split: its documents (questions), their passages and modules, and the number of
        questions by kind.
    """
    import spacy
    from spacy.tokens import DocBin

    from spacy_bert.datasets.questions import make_question

    def make(question: Question) -> Doc:
        places = [(start, start + len(text)) for start, text in question.answers]
        return make_question(nlp, question.text, question.passage, answers=places, facts=None)

    nlp = spacy.blank("en")
    stats = {}
    for split, asked in splits.items():
        docs = DocBin(docs=map(make, asked))
        with replacing(directory / f"{split}.spacy") as temporary:
            docs.to_disk(temporary)
        stats[split] = {
            "documents": len(docs),
            "passages": len({question.passage for question in asked}),
            "modules": len({question.module for question in asked}),
            "kinds": dict(sorted(Counter(question.kind for question in asked).items())),
        }
    return stats


def _answered(docstring: Docstring, passage: str, sentences: Iterable[str]) -> Iterator[Question]:
    """What the phrases of a passage answer; the same question twice has two right answers."""
    answers: dict[tuple[str, str], list[tuple[int, str]]] = defaultdict(list)
    start = 0
    for sentence in sentences:
        begin = passage.find(sentence, start)
        if begin < 0:
            continue
        start = begin + len(sentence)
        for kind, match in _phrases(sentence, docstring.parameters):
            answer = _clause(match["answer"])
            if answer:
                text = _ask(kind, docstring, match.groupdict(), _hash(passage))
                answers[kind, text].append((begin + match.start("answer"), answer))
    for (kind, text), found in answers.items():
        yield Question(text, passage, tuple(found), kind, docstring.module)


def _phrases(sentence: str, parameters: tuple[str, ...]) -> Iterator[tuple[str, re.Match[str]]]:
    """The set phrases of a sentence, one of each kind at most."""
    for kind, patterns in ((RETURN, _RETURNED), (RAISE, _RAISED)):
        match = next(filter(None, (pattern.search(sentence) for pattern in patterns)), None)
        if match:
            yield kind, match
    for kind, pattern in ((PARAMETER, _DESCRIBED), (CONDITION, _FOLLOWS)):
        match = pattern.search(sentence)
        if match and match["parameter"] in parameters:
            yield kind, match


def _clause(text: str) -> str | None:
    """The beginning of a text up to the end of its clause; None if that answers nothing."""
    answer = _END.split(text, maxsplit=1)[0]
    shorter = _ASIDE.split(answer, maxsplit=1)[0]
    answer = (shorter if len(shorter.split()) > 1 else answer).rstrip(" .,")
    if len(answer.split()) > MAX_ANSWER or len(_LETTER.findall(answer)) < 2:
        return None
    begins_in_the_middle = answer.startswith(("and ", "or "))
    return None if begins_in_the_middle or answer.count("(") != answer.count(")") else answer


def _unanswered(docstring: Docstring, passage: str, draw: int) -> Iterator[Question]:
    """A question that the passage does not answer, if there is one; `draw` picks its kind."""
    words = set(re.findall(r"\w+", passage))
    asked: list[tuple[str, dict[str, str]]] = []
    if not re.search(r"return|result|give", passage, re.I) and not _PROPERTY.match(passage):
        asked.append((RETURN, {}))
    errors = [error for error in ERRORS if error not in words]
    if draw % 2:  # it could always be asked, and few passages answer it
        asked.append((RAISE, {"error": errors[draw // 3 % len(errors)]}))
    for parameter in docstring.parameters:
        if parameter not in words:
            asked.append((PARAMETER, {"parameter": parameter}))
        elif not re.search(rf"\b(?:If|if|[Ww]hen) (?:the )?{parameter}\b", passage):
            value = ("is None", "is true", "is empty", "is negative")[draw % 4]
            asked.append((CONDITION, {"parameter": parameter, "value": value}))
    if not asked:
        return
    kinds = sorted({kind for kind, _ in asked})
    kind = kinds[draw // 7 % len(kinds)]
    of_kind = [fields for name, fields in asked if name == kind]
    fields = of_kind[draw // 11 % len(of_kind)]
    yield Question(_ask(kind, docstring, fields, draw), passage, (), NONE, docstring.module)


def _ask(kind: str, docstring: Docstring, fields: dict[str, str], draw: int) -> str:
    name = docstring.name.rpartition(".")[2]
    if name == "__init__":  # nobody calls it by that name
        name = docstring.name.split(".")[-2]
    return FORMS[kind][draw // 5 % 2].format(name=name, **fields)


def _hash(text: str) -> int:
    """A number that any machine gets for the text."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:6], "big")
