"""Entities in columns: the gold that is written is what the tags spell."""

from __future__ import annotations

import gzip
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import spacy
from hypothesis import given, settings
from hypothesis import strategies as st
from spacy.cli.convert import convert
from spacy.tokens import Doc, DocBin
from spacy.training import Corpus
from typer.testing import CliRunner

from spacy_bert.cli.app import app
from spacy_bert.datasets.iob import (
    BadToken,
    Columns,
    Counts,
    detect_scheme,
    read_entities,
    write_iob,
)
from spacy_bert.datasets.writing import BadRows
from tests.shared_data import SHARED, needs_shared

NLP = spacy.blank("en")

Entity = tuple[int, int, str]

CONLL = """-DOCSTART- -X- O O

EU NNP I-NP I-ORG
rejects VBZ I-VP O
German JJ I-NP I-MISC

Peter NNP I-NP I-PER
Blackburn NNP I-NP I-PER
Ann NNP I-NP B-PER

-DOCSTART- -X- O O

BRUSSELS NNP I-NP I-LOC
1996-08-22 CD I-NP O
"""


def write(path: Path, text: str) -> Path:
    data = text.encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def read(path: Path) -> list[Doc]:
    return list(DocBin().from_disk(path).get_docs(NLP.vocab))


def run(
    source: Path, *, bad: BadRows | None = None, columns: Columns | None = None, **options: Any
) -> tuple[list[Doc], Counts]:
    output = source.parent / "out.spacy"
    columns = columns or Columns()
    counts = write_iob(source, output, NLP, bad or BadRows(), columns=columns, **options)
    return read(output), counts


def found(doc: Doc) -> list[Entity]:
    return [(ent.start, ent.end, ent.label_) for ent in doc.ents]


def spell(length: int, entities: Sequence[Entity], scheme: str) -> list[str]:
    """Tags that spell entities, by the schemes' definitions."""
    tags = ["O"] * length
    for number, (start, end, label) in enumerate(entities):
        before = entities[number - 1] if number else (0, -1, "")
        begins = "B" if scheme != "iob1" or before[1:] == (start, label) else "I"
        tags[start:end] = [f"{begins}-{label}", *[f"I-{label}"] * (end - start - 1)]
        if scheme in ("bioes", "bilou"):
            last, only = "ES" if scheme == "bioes" else "LU"
            tags[end - 1] = f"{only if end - start == 1 else last}-{label}"
    return tags


def spans(tags: Sequence[str]) -> list[Entity]:
    """The entities that `seqeval` and `conlleval` find, of IOB1 and IOB2."""
    result: list[Entity] = []
    for i, tag in enumerate(tags):
        prefix, _, label = tag.partition("-")
        if tag == "O":
            continue
        same = i > 0 and tags[i - 1].partition("-")[2] == label
        if prefix == "I" and same:
            result[-1] = (result[-1][0], i + 1, label)
        else:
            result.append((i, i + 1, label))
    return result


@st.composite
def sentences(draw: st.DrawFn) -> tuple[int, list[Entity]]:
    entities, place = [], 0
    for gap, length, label in draw(
        st.lists(st.tuples(st.integers(0, 2), st.integers(1, 3), st.sampled_from(["PER", "X-Y"])))
    ):
        entities.append((place + gap, place + gap + length, label))
        place += gap + length
    return place + draw(st.integers(0, 2)), entities


@given(sentences(), st.sampled_from(["iob1", "iob2", "bioes", "bilou"]))
def test_tags_of_every_scheme_come_back(sentence: tuple[int, list[Entity]], scheme: str) -> None:
    length, entities = sentence
    tags = spell(length, entities, scheme)
    assert read_entities(tags, "bioes" if scheme == "bilou" else scheme) == entities
    if scheme in ("iob1", "iob2"):
        assert spans(tags) == entities


@given(st.lists(st.sampled_from(["O", "B-A", "I-A", "B-B", "I-B"]), max_size=8))
def test_iob1_reads_all_tags_as_conlleval_does(tags: list[str]) -> None:
    assert read_entities(tags, "iob1") == spans(tags)


@given(st.lists(st.sampled_from(["O", "B-A", "I-A", "E-A", "S-A", "I-B", "E-B"]), max_size=6))
def test_bioes_takes_only_what_it_could_have_spelled(tags: list[str]) -> None:
    try:
        entities = read_entities(tags, "bioes")
    except BadToken as error:
        begun = tags[: error.index + 1]
    else:
        assert spell(len(tags), entities, "bioes") == tags
        return
    # What stands before the token that is named was right, or could have been.
    label = begun[-2].partition("-")[2] if len(begun) > 1 and begun[-2][0] in "BI" else ""
    before = begun[:-1] + [f"E-{label}"] * bool(label)
    assert spell(len(before), read_entities(before, "bioes"), "bioes") == before


@given(st.lists(sentences(), min_size=1, max_size=5), st.sampled_from(["iob1", "iob2", "bioes"]))
@settings(max_examples=30)
def test_what_is_written_is_what_the_file_says(
    tmp_path_factory: pytest.TempPathFactory, data: list[tuple[int, list[Entity]]], scheme: str
) -> None:
    data = [(length, entities) for length, entities in data if length] or [(1, [])]
    blocks = [
        "".join(f"w{i}\tNN\t{tag}\n" for i, tag in enumerate(spell(length, entities, scheme)))
        for length, entities in data
    ]
    source = write(tmp_path_factory.mktemp("iob") / "x.txt", "\n".join(blocks))
    docs, counts = run(source, scheme=scheme)
    assert [(len(doc), found(doc)) for doc in docs] == data
    labels = Counter(label for _, entities in data for *_, label in entities)
    assert counts.entities == labels
    assert (counts.sentences, counts.tokens) == (len(data), sum(length for length, _ in data))


@pytest.mark.parametrize("name", ["eng.train", "eng.train.gz"])
def test_sentences_and_documents(tmp_path: Path, name: str) -> None:
    source = write(tmp_path / name, CONLL)
    docs, counts = run(source)
    assert [doc.text.split() for doc in docs] == [
        ["EU", "rejects", "German"],
        ["Peter", "Blackburn", "Ann"],
        ["BRUSSELS", "1996-08-22"],
    ]
    assert [found(doc) for doc in docs] == [
        [(0, 1, "ORG"), (2, 3, "MISC")],
        [(0, 2, "PER"), (2, 3, "PER")],
        [(0, 1, "LOC")],
    ]
    assert counts == Counts(
        scheme="iob1",
        documents=2,
        sentences=3,
        tokens=8,
        entities=Counter(ORG=1, MISC=1, PER=2, LOC=1),
    )
    assert not any(doc.has_annotation("TAG") for doc in docs)
    docs, again = run(source, documents=True, columns=Columns(pos=2))
    assert again == counts
    assert [[sent.text for sent in doc.sents] for doc in docs] == [
        ["EU rejects German", "Peter Blackburn Ann"],
        ["BRUSSELS 1996-08-22"],
    ]
    assert found(docs[0]) == [(0, 1, "ORG"), (2, 3, "MISC"), (3, 5, "PER"), (5, 6, "PER")]
    assert [token.tag_ for token in docs[1]] == ["NNP", "CD"]


def test_pipelines_get_the_tokens_of_the_file(tmp_path: Path) -> None:
    source = write(tmp_path / "x.txt", "can't O\n(U.K.) B-LOC\n")
    run(source)
    (example,) = Corpus(tmp_path / "out.spacy")(NLP)
    assert [token.text for token in example.predicted] == ["can't", "(U.K.)"]
    assert example.get_aligned_ner() == ["O", "U-LOC"]


@pytest.mark.parametrize(
    ("text", "scheme"),
    [
        (CONLL, "iob1"),
        ("a B-A\nb I-A\n\nc I-A\n\nd B-A\n", "iob2"),  # one broken sentence
        ("a B-A\nb B-A\n", "iob2"),
        ("a I-A\nb B-A\nc B-A\n", "iob1"),
        ("a O\n", "iob2"),
        ("a B-A\nb E-A\n", "bioes"),
        ("a I-A\nb U-A\n", "bioes"),
    ],
)
def test_the_scheme_is_found(tmp_path: Path, text: str, scheme: str) -> None:
    assert detect_scheme(write(tmp_path / "x.txt", text), Columns()) == scheme


@pytest.mark.parametrize(
    ("scheme", "rows", "line", "problem"),
    [
        ("iob2", "b I-PER", 4, "tag 'I-PER' goes on with no entity: in iob2, one begins with B"),
        ("iob2", "b B-LOC\nc I-PER", 5, "tag 'I-PER' goes on with no entity"),
        ("iob2", "b O\nc B-", 5, "tag 'B-' has no label: expected B-LABEL"),
        ("iob1", "b I", 4, "tag 'I' has no label: expected I-LABEL"),
        ("iob1", "b S-PER", 4, "tag 'S-PER' is none of iob1: O, B-LABEL, I-LABEL"),
        ("iob2", "b BI-PER", 4, "tag 'BI-PER' is none of iob2"),
        ("iob2", "b O-PER", 4, "tag 'O-PER' is none of iob2"),
        ("bioes", "b B-PER\nc O", 5, "tag 'O' stands where the entity must go on: expected I-PER"),
        ("bioes", "b B-PER\nc E-LOC", 5, "tag 'E-LOC' stands where the entity must go on"),
        ("bioes", "b B-PER\nc I-PER", 5, "the sentence ends where the entity must go on"),
        ("bioes", "b L-PER", 4, "tag 'L-PER' goes on with no entity"),
        ("iob2", "b NN O", 4, "3 columns instead of 2"),
        ("iob2", "b", 4, "1 columns instead of 2"),
        ("iob2", "b\x1e O", 4, r"expected a word in column 1, got 'b\x1e'"),
        ("iob2", "\tO", 4, "expected a word in column 1, got ''"),
    ],
)
def test_malformed_rows_are_fatal_or_cost_their_sentence(
    tmp_path: Path, scheme: str, rows: str, line: int, problem: str
) -> None:
    source = write(tmp_path / "x.txt", f"-DOCSTART- O\n\na O\n{rows}\n\nz O\n")
    bad = BadRows()
    with pytest.raises(ValueError, match="line") as caught:
        run(source, scheme=scheme)
    assert str(caught.value).startswith(f"{source}, line {line}: {problem}")
    assert not (tmp_path / "out.spacy").exists()
    bad = BadRows(skip=True)
    docs, counts = run(source, scheme=scheme, bad=bad)
    assert bad.problems == [str(caught.value)]
    assert [doc.text for doc in docs] == ["z "]
    assert (counts.documents, counts.sentences) == (1, 1)


def test_columns_comments_and_odd_space(tmp_path: Path) -> None:
    text = "# a comment O\n1\ta b\tB-X\tO\n2\tc\u00a0d\tI-X\tO \n \n# O\n1\te\r\tO\tO\r\n"
    source = write(tmp_path / "x.tsv", text)
    docs, _ = run(source, columns=Columns(word=2, tag=-2), comment="# ")
    assert [[token.text for token in doc] for doc in docs] == [["a b", "c\u00a0d"], ["e\r"]]
    assert found(docs[0]) == [(0, 2, "X")]


@pytest.mark.parametrize(
    ("columns", "problem"),
    [
        ({"tag": 5}, "line 3: there is no column 5: this row has 4"),
        ({"pos": -5}, "line 3: there is no column -5: this row has 4"),
        ({"word": 4}, "line 3: word and tag would both stand in column 4 of 4"),
    ],
)
def test_columns_that_are_not_there(tmp_path: Path, columns: dict[str, int], problem: str) -> None:
    source = write(tmp_path / "x.txt", CONLL)
    with pytest.raises(ValueError, match=f"^{source}, {problem}$"):
        run(source, columns=Columns(**columns), bad=BadRows(skip=True))


def test_what_cannot_be_read_says_why(tmp_path: Path) -> None:
    source = write(tmp_path / "x.txt", "a O\n")
    with pytest.raises(ValueError, match=r"has no line -DOCSTART-: only sentences can"):
        run(source, documents=True)
    with pytest.raises(ValueError, match="unknown scheme 'iob'; known are iob1, iob2, bioes"):
        run(source, scheme="iob")
    with pytest.raises(ValueError, match="columns are counted from 1"):
        Columns(tag=0)
    source.write_bytes(b"a O\n\xe9 O\n")
    with pytest.raises(ValueError, match=rf"^{source}, line 2: not UTF-8"):
        run(source)
    with pytest.raises(ValueError, match="the source has no usable row"):
        run(write(source, "\n-DOCSTART- O\n"))


def test_the_command(tmp_path: Path) -> None:
    source, output = write(tmp_path / "x.txt", f"{CONLL}rain O\n\nPISA NNP I-NP I-LOC\n"), "o.spacy"
    arguments = ["data", "iob", str(source), str(tmp_path / output)]
    failed = CliRunner().invoke(app, arguments)
    assert failed.exit_code == 1
    assert failed.stderr == f"Error: {source}, line 15: 2 columns instead of 4\n"
    done = CliRunner().invoke(app, [*arguments, "--skip-bad-rows", "--documents"])
    assert done.exit_code == 0, done.output
    assert done.stderr == f"Skipped {source}, line 15: 2 columns instead of 4\n"
    assert done.stdout == (
        f"{tmp_path / output}: a Doc for each document: 2 documents, 3 sentences, 7 tokens; "
        "entities (iob1): LOC 1, MISC 1, ORG 1, PER 2; 1 malformed sentences left out\n"
    )
    assert [len(doc) for doc in read(tmp_path / output)] == [6, 1]


def annotations(doc: Doc) -> tuple[list[str], list[Entity], list[str]]:
    return [token.text for token in doc], found(doc), [token.tag_ for token in doc]


@pytest.mark.parametrize("scheme", ["iob1", "iob2"])
def test_agrees_with_spacy_convert(tmp_path: Path, scheme: str) -> None:
    entities = [[(0, 1, "ORG"), (2, 3, "MISC")], [(0, 2, "PER"), (2, 3, "PER")], []]
    blocks = ["-DOCSTART- -X- O O"]
    for place, sentence in enumerate(entities):
        rows = spell(3, sentence, scheme)
        blocks.append("\n".join(f"w{place}{i} T{i} X {tag}" for i, tag in enumerate(rows)))
    source = write(tmp_path / "x.iob", "\n\n".join(blocks))
    (tmp_path / "theirs").mkdir()
    convert(source, tmp_path / "theirs", file_type="spacy", converter="ner")
    docs, _ = run(source, documents=True, columns=Columns(pos=2), scheme=scheme)
    assert [annotations(doc) for doc in docs] == [
        annotations(doc) for doc in read(tmp_path / "theirs" / "x.spacy")
    ]


# Of each file: documents, sentences, tokens; entities as in Tjong Kim Sang and De Meulder 2003.
SIZES = {
    "eng.train": ((946, 14041, 203621), {"LOC": 7140, "MISC": 3438, "ORG": 6321, "PER": 6600}),
    "eng.testa": ((216, 3250, 51362), {"LOC": 1837, "MISC": 922, "ORG": 1341, "PER": 1842}),
    "eng.testb": ((231, 3453, 46435), {"LOC": 1668, "MISC": 702, "ORG": 1661, "PER": 1617}),
}


def blocks(file: Path) -> Iterator[list[str]]:
    """The tags of each sentence, read apart from the reader."""
    for block in file.read_text(encoding="utf8").split("\n\n"):
        rows = [line.split() for line in block.split("\n") if line.strip()]
        if rows and rows[0][0] != "-DOCSTART-":
            yield [row[3] for row in rows]


@needs_shared
@pytest.mark.parametrize("name", ["eng.testa", "eng.testb"])
def test_conll2003(tmp_path: Path, name: str) -> None:
    file = SHARED / "conll2003" / name
    counts = write_iob(file, tmp_path / "x.spacy", NLP, BadRows(), columns=Columns())
    assert counts.scheme == "iob1"
    assert ((counts.documents, counts.sentences, counts.tokens), counts.entities) == SIZES[name]
    expected = [spans(tags) for tags in blocks(file)]
    assert [found(doc) for doc in read(tmp_path / "x.spacy")] == expected


@needs_shared
def test_conll2003_by_documents_as_spacy_converts_it(tmp_path: Path) -> None:
    file = SHARED / "conll2003" / "eng.testa"
    (tmp_path / "theirs").mkdir()
    convert(file, tmp_path / "theirs", file_type="spacy", converter="ner")
    write_iob(file, tmp_path / "x.spacy", NLP, BadRows(), columns=Columns(pos=2), documents=True)
    ours, theirs = read(tmp_path / "x.spacy"), read(tmp_path / "theirs" / "eng.spacy")
    assert [annotations(doc) for doc in ours] == [annotations(doc) for doc in theirs]
    assert [[s.start for s in d.sents] for d in ours] == [
        [s.start for s in d.sents] for d in theirs
    ]
