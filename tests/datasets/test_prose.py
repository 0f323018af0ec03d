from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spacy_bert.datasets.prose import clean_sentences, sections, split_sentences


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Read a file. It must exist.", ["Read a file.", "It must exist."]),
        ("Use a name, e.g. the first. Then stop.", ["Use a name, e.g. the first.", "Then stop."]),
        ("Call os.path.join first. x is a path.", ["Call os.path.join first.", "x is a path."]),
        ('It says "no." Then it ends.', ['It says "no."', "Then it ends."]),
        ("Written by J. Doe in May.", ["Written by J. Doe in May."]),
        ("Wait ... and see what comes.", ["Wait ... and see what comes."]),
        ("No full stop here", ["No full stop here"]),
    ],
)
def test_split_sentences(text: str, expected: list[str]) -> None:
    assert split_sentences(text) == expected


@pytest.mark.parametrize(
    "code",
    [
        ">>> list(range(3))\n    [0, 1, 2]",
        "for item in items:\n        print(item)",
        "compile(source, filename, mode) -> code",
        "+------+-------+\n    | name | value |\n    +------+-------+",
        'field ::= "{" [name] ["!" conversion] "}"',
        "Name      Meaning of it\n    ====      =============",
    ],
)
def test_what_is_not_prose_is_dropped(code: str) -> None:
    text = f"The first line says something.\n\n    {code}\n\n    The last line ends it.\n    "
    assert clean_sentences(text) == ["The first line says something.", "The last line ends it."]


def test_wrapped_lines_items_and_markup() -> None:
    text = """Open the file ``name`` and return a
        :class:`~io.TextIO` for *reading*.

        Args:
            name: The name of the file, as it
                stands in the directory.
            mode -- one letter for the access wanted

        * The first item of a list
        * The non-
          empty second one
        """
    assert clean_sentences(text) == [
        "Open the file name and return a io.TextIO for reading.",
        "name: The name of the file, as it stands in the directory.",
        "mode -- one letter for the access wanted",
        "The first item of a list",
        "The non-empty second one",
    ]


def test_sections_end_at_headings() -> None:
    text = "Title\n*****\n\nFirst part.\n\nOther\n=====\n\nSecond part.\n"
    assert [section.strip() for section in sections(text)] == ["First part.", "Second part."]


@given(st.text(alphabet=st.sampled_from("aB. \n-`*:>#(=)\"'1|")))
def test_sentences_are_single_unique_lines(text: str) -> None:
    sentences = clean_sentences(text)
    assert len(set(sentences)) == len(sentences)
    assert all(sentence == " ".join(sentence.split()) != "" for sentence in sentences)


@given(st.text(alphabet=st.sampled_from("aB. !?e.g)'")))
def test_splitting_loses_nothing(text: str) -> None:
    assert "".join("".join(split_sentences(text)).split()) == "".join(text.split())
