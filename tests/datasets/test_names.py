"""Names of code in docstrings: what is marked, what is left, and how the set is divided."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import spacy
import srsly
from spacy.tokens import DocBin

from spacy_bert.datasets.areas import SPLITS
from spacy_bert.datasets.names import (
    DOTTED,
    FUNCTION,
    LABELS,
    PARAMETER,
    QUOTED,
    NamedText,
    named_doc,
    named_sentences,
    named_texts,
    signature_of,
    take_marks,
)
from spacy_bert.datasets.pydocs import Docstring, Document, read_docstrings

Names = dict[str, list[NamedText]]


@pytest.fixture(scope="module")
def names(docs: list[Document], splits: dict[str, str]) -> Names:
    return named_texts(docs, splits)


def marked(example: NamedText) -> list[tuple[str, str]]:
    return [(example.text[name.start : name.end], name.label) for name in example.names]


@pytest.mark.parametrize(
    ("text", "plain", "expected"),
    [
        ("Call close() first.", "Call close first.", [("close", FUNCTION)]),
        ("Use `os.stat()` here.", "Use os.stat here.", [("os.stat", FUNCTION)]),
        ("See :func:`~os.walk` now.", "See os.walk now.", [("os.walk", FUNCTION)]),
        ("Call ``.default()`` then.", "Call default then.", [("default", FUNCTION)]),
        ("It is in sys.path.", "It is in sys.path.", [("sys.path", DOTTED)]),
        ("A :class:`.Mock` is it.", "A Mock is it.", [("Mock", QUOTED)]),
        ("The 'mode' of `name'.", "The mode of name.", [("mode", PARAMETER), ("name", QUOTED)]),
        ("If *mode* is *not* given", "If mode is not given", [("mode", PARAMETER)]),
        ("Pass **mode on.", "Pass mode on.", [("mode", PARAMETER)]),
        ('It is "wb," or "utf-8".', "It is wb, or utf-8.", [("wb", QUOTED), ("utf-8", QUOTED)]),
        ("The '/' and e.g. '-' stay.", "The / and e.g. - stay.", []),
        ("Don't ask python.org, it isn't.", "Don't ask python.org, it isn't.", []),
        ("The plain mode has no marks.", "The plain mode has no marks.", []),
        ("Call len(x) or 'a b'.", "Call len(x) or 'a b'.", []),
    ],
)
def test_take_marks(text: str, plain: str, expected: list[tuple[str, str]]) -> None:
    found, names = take_marks(text, ["mode"])
    assert found == plain
    assert [(found[name.start : name.end], name.label) for name in names] == expected


def test_a_docstring_by_hand() -> None:
    text = """Open 'file' as os.open() does.

        The mode is said here without a mark. Its default is ``text``, "a b" or `file`.

        mode -- a key of `modes`, or of the file itself
        """
    docstring = Docstring("files", "File.open", text, ("file", "mode"))
    assert signature_of(docstring) == "open(file, mode)"
    assert [(example.text, marked(example)) for example in named_sentences(docstring)] == [
        ("Open file as os.open does.", [("file", PARAMETER), ("os.open", FUNCTION)]),
        ("a key of modes, or of the file itself", [("modes", QUOTED)]),
    ]


def test_only_the_first_segment_tells_a_parameter() -> None:
    def labels(*parameters: str) -> list[str]:
        (example,) = named_sentences(Docstring("m", "f", "Read the `key` of it.", parameters))
        return [name.label for name in example.names]

    assert labels("key") == [PARAMETER]
    assert labels("other") == [QUOTED]


def test_a_signature_that_leaves_no_room_is_left_out() -> None:
    parameters = tuple(f"argument_{number}" for number in range(9))
    assert named_sentences(Docstring("m", "f", "Read the `key` of it.", parameters)) == []


def test_docs_have_two_segments_and_the_names_as_entities() -> None:
    nlp = spacy.blank("en")
    (example,) = named_sentences(Docstring("m", "f", "Read `key` with io.open().", ("key",)))
    doc = named_doc(nlp, example)
    assert doc is not None
    assert [segment.text for segment in doc._.segments] == ["f(key)", "Read key with io.open."]
    assert [(ent.text, ent.label_) for ent in doc.ents] == [
        ("key", PARAMETER),
        ("io.open", FUNCTION),
    ]


def test_docs_whose_tokens_do_not_fit_a_name_are_left_out() -> None:
    nlp = spacy.blank("en")
    (example,) = named_sentences(Docstring("m", "f", "Read the `key`word and its value.", ()))
    assert example.text == "Read the keyword and its value."
    assert named_doc(nlp, example) is None


def test_no_mark_is_left(names: Names) -> None:
    for example in (example for examples in names.values() for example in examples):
        assert not re.search(r"""[`*"]|(?<!\w)'|\w\(|__""", example.text), example
        assert "\x1e" not in example.signature + example.text


def test_parameters_stand_in_the_signature_and_others_do_not(names: Names) -> None:
    for example in (example for examples in names.values() for example in examples):
        assert example.names
        parameters = re.findall(r"\w+", example.signature.partition("(")[2])
        for text, label in marked(example):
            assert text.strip() == text != ""
            assert (label == PARAMETER) == (text in parameters)
            assert label != DOTTED or "." in text


def test_splits_share_no_module_and_no_sentence(names: Names, splits: dict[str, str]) -> None:
    modules = [{example.module for example in examples} for examples in names.values()]
    assert not modules[0] & modules[1] | modules[0] & modules[2] | modules[1] & modules[2]
    texts = [example.text.lower() for examples in names.values() for example in examples]
    assert len(texts) == len(set(texts))
    for split, examples in names.items():
        assert all(splits.get(example.module, "train") == split for example in examples)


def test_the_files_hold_what_was_marked(written: Path, names: Names) -> None:
    stats = srsly.read_json(written / "stats.json")["ner"]
    nlp = spacy.blank("en")
    for split in SPLITS:
        of_text = {f"{e.signature}\x1e{e.text}": marked(e) for e in names[split]}
        docs = list(DocBin().from_disk(written / "ner" / f"{split}.spacy").get_docs(nlp.vocab))
        assert len(docs) == stats[split]["documents"]
        assert len(docs) + stats[split]["left_out"] == len(names[split])
        assert stats[split]["left_out"] < 0.05 * len(docs)
        for doc in docs:
            assert [(ent.text, ent.label_) for ent in doc.ents] == of_text[doc.text]
            assert [token.text for token in nlp(doc.text)] == [token.text for token in doc]
        counts = {label: sum(e.label_ == label for d in docs for e in d.ents) for label in LABELS}
        assert counts == stats[split]["labels"]


def test_the_set_is_large_enough(written: Path) -> None:
    stats = srsly.read_json(written / "stats.json")["ner"]
    assert sum(stats["train"]["labels"].values()) >= 1500
    for split in SPLITS:
        assert min(stats[split]["labels"].values()) >= 25


def test_parameters_of_functions_and_classes(tmp_path: Path) -> None:
    (tmp_path / "part.py").write_text(
        "class A:\n"
        '    """Of the class."""\n'
        "    def __init__(self, a, /, b, *c, d=1, **e):\n"
        '        """Of its start."""\n'
        "    async def g(cls, x):\n"
        '        """Of a method."""\n'
    )
    found = {doc.text: doc.parameters for doc in read_docstrings(tmp_path)}
    assert found == {
        "Of the class.": ("a", "b", "c", "d", "e"),
        "Of its start.": ("a", "b", "c", "d", "e"),
        "Of a method.": ("x",),
    }
