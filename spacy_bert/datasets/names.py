"""A named-entity set derived from Python's documentation: the names of code inside of prose.

Authors of docstrings mark names of code by quotes, backticks, asterisks, dots or a call's empty
parentheses. These marks give the labels, and all but the dots are then taken out of the text:

    PARAMETER  marked in any of these ways, and a parameter of the function documented
    FUNCTION   called: `close()`, or named by a role such as :func:`
    DOTTED     `os.path`, with or without quotes, but not called
    QUOTED     any other word in quotes or backticks: attributes, modules, keys, values

A Doc has two segments: the signature of what is documented, and one sentence of its docstring.
Whether a name is a PARAMETER stands in the first segment alone.

The labels are *derived*, not annotated, and imperfect: authors leave many names unmarked, and such
names count as no names here; others put plain words in quotes. Only sentences in which the author
marked something are used, so every Doc has a name. No system can be perfect, and scores mean
something only beside each other's.

Train, dev and test share no module (see `spacy_bert.datasets.areas.split_modules`), so that what
pre-training may read holds nothing of dev and test.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spacy_bert.datasets.areas import SPLITS
from spacy_bert.datasets.prose import is_sentence, paragraphs, split_sentences
from spacy_bert.files import replacing

if TYPE_CHECKING:
    from spacy.language import Language
    from spacy.tokens import Doc

    from spacy_bert.datasets.pydocs import Docstring, Document

PARAMETER, FUNCTION, DOTTED, QUOTED = LABELS = ("PARAMETER", "FUNCTION", "DOTTED", "QUOTED")

# Words, numbers and signs of the signature, and of both segments: the tiny BERT of the embedded
# workflow reads 64 pieces, and a signature of more than 29 would leave no room to slide.
MAX_SIGNATURE = 20
MAX_PARTS = 48

_NAME = r"[A-Za-z_]\w*"
_DOTTED = rf"{_NAME}(?:\.{_NAME})*"
_MARKED = re.compile(
    rf"""
    :(?:\w+:)?(?P<role>\w+):`[~!]?(?P<of_role>[^`<\s]+)(?:\s*<[^`]*>)?`
    | `{{1,2}}(?P<ticks>[^`'\s]+)(?:`{{1,2}}_?|'{{1,2}}(?!\w))
    | (?<![\w'")\]])'(?P<single>[^\s'"]+)'(?![\w'])
    | (?<![\w'")\]])"(?P<double>[^\s'"]+?)(?P<stop>[.,]?)"(?![\w"])
    | (?<![\w*])\*{{1,2}}(?P<emphasis>{_NAME})\*{{0,2}}(?![\w*])
    | (?<![\w./@\-])\.?(?P<call>{_DOTTED})\(\)
    | (?<![\w./@\-])(?P<dots>{_NAME}(?:\.{_NAME})+)(?![\w/(@])
    """,
    re.VERBOSE,
)
_KINDS = ("of_role", "ticks", "single", "double", "emphasis", "call", "dots")

# Marks that are left: quotations of several words, expressions, calls with arguments; and double
# underscores, which spaCy's tokenizer cuts off (`__init__` has five tokens).
_LEFT = re.compile(r"""[`*"]|(?<!\w)'|\w\(|__""")
_NO_CODE = re.compile(
    r"\w\.\w|.+\.(com|org|net|edu|txt|html?|log|cfg|ini|zip|t?gz|tar|exe|dll)", re.IGNORECASE
)
_DEFINES = re.compile(r":\s|\w --?\s")  # behind a parameter at the head of a list's item
_PART = re.compile(r"[^\W_]+|[\W_]")


@dataclass(frozen=True)
class Name:
    """A name in a text: its characters from `start` to `end`, and its label."""

    start: int
    end: int
    label: str


@dataclass(frozen=True)
class NamedText:
    """A sentence without marks, what it documents, and the names in it."""

    signature: str
    text: str
    names: tuple[Name, ...]
    module: str


def take_marks(text: str, parameters: Iterable[str] = ()) -> tuple[str, tuple[Name, ...]]:
    """Take the marks of names out of a sentence and return what they marked.

    Args:
        text: The sentence with its marks.
        parameters: Names of the parameters of the function documented.

    Returns:
        The sentence without the marks, and the names in order.
    """
    parameters = frozenset(parameters)
    plain, found, done = "", [], 0
    for match in _MARKED.finditer(text):
        plain += text[done : match.start()]
        done = match.end()
        content = next(match[kind] for kind in _KINDS if match[kind])
        label = _label(match, content, parameters)
        content = content.removesuffix("()")
        if label is not None:
            content = content.lstrip(".")
            found.append(Name(len(plain), len(plain) + len(content), label))
        plain += content + (match["stop"] or "")
    return plain + text[done:], tuple(found)


def _label(match: re.Match[str], content: str, parameters: frozenset[str]) -> str | None:
    """The label of what was marked, None if it is no name: a sign, an emphasis, a file, a host."""
    name = content.removesuffix("()").lstrip(".")
    if name in parameters:
        return PARAMETER
    if match["emphasis"] or not re.search(r"[^\W\d_]", name):
        return None
    if re.fullmatch(_DOTTED, name):
        if match["call"] or content.endswith("()") or match["role"] in ("func", "meth"):
            return FUNCTION
        if "." in name:
            return None if _NO_CODE.fullmatch(name) else DOTTED
    return None if match["dots"] else QUOTED


def signature_of(docstring: Docstring) -> str:
    """What a docstring documents: `name(parameter, ...)`, or the module's name."""
    if not docstring.name:
        return docstring.module
    return f"{docstring.name.rpartition('.')[2]}({', '.join(docstring.parameters)})"


def named_sentences(docstring: Docstring) -> list[NamedText]:
    """The sentences of a docstring that have a name, and no mark once the names' are taken out."""
    signature = signature_of(docstring)
    size = len(_PART.findall(signature.replace(" ", "")))
    if size > MAX_SIGNATURE:
        return []
    found = []
    for paragraph in paragraphs(docstring.text, markup=True):
        head, _, rest = paragraph.partition(" ")
        if head.rstrip(":") in docstring.parameters and _DEFINES.match(paragraph, len(head) - 1):
            paragraph = rest.lstrip("- ")
        for sentence in split_sentences(paragraph):
            text, names = take_marks(sentence, docstring.parameters)
            parts = size + len(_PART.findall(re.sub(r"\s", "", text)))
            if names and is_sentence(text) and not _LEFT.search(text) and parts <= MAX_PARTS:
                found.append(NamedText(signature, text, names, docstring.module))
    return found


def named_texts(
    documents: Iterable[Document], splits: dict[str, str]
) -> dict[str, list[NamedText]]:
    """The examples of every split, no sentence twice; modules without a split are for training."""
    seen: set[str] = set()
    found: dict[str, list[NamedText]] = {name: [] for name in SPLITS}
    for document in documents:
        if document.docstring is None:
            continue
        for example in named_sentences(document.docstring):
            if example.text.lower() not in seen:
                seen.add(example.text.lower())
                found[splits.get(document.source, "train")].append(example)
    return found


def named_doc(nlp: Language, example: NamedText) -> Doc | None:
    """A Doc of two segments with `doc.ents`; None if the tokens do not fit a name's borders."""
    from spacy_bert.models.segments import join

    doc = join(nlp, example.signature, example.text)
    shift = len(doc.text) - len(example.text)
    spans = []
    for name in example.names:
        span = doc.char_span(name.start + shift, name.end + shift, name.label)
        if span is None:
            return None
        spans.append(span)
    doc.set_ents(spans)
    return doc


def write_named_docbins(
    splits: dict[str, list[NamedText]], directory: Path
) -> dict[str, dict[str, Any]]:
    """Write `train.spacy`, `dev.spacy` and `test.spacy`: blank English Docs with `doc.ents`.

    Returns:
        For every split: its documents, their modules, the names by label, and how many documents
        were left out because spaCy's tokens do not fit a name.
    """
    import spacy
    from spacy.tokens import DocBin

    nlp = spacy.blank("en")
    stats = {}
    for split, examples in splits.items():
        docs, labels, modules = DocBin(), Counter[str](), set()
        for example in examples:
            doc = named_doc(nlp, example)
            if doc is not None:
                docs.add(doc)
                labels.update(name.label for name in example.names)
                modules.add(example.module)
        with replacing(directory / f"{split}.spacy") as temporary:
            docs.to_disk(temporary)
        stats[split] = {
            "documents": len(docs),
            "modules": len(modules),
            "labels": dict(sorted(labels.items())),
            "left_out": len(examples) - len(docs),
        }
    return stats
