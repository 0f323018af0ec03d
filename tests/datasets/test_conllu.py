"""Treebanks in CoNLL-U: trees, tags and white space come back as the file has them."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest
import spacy
from hypothesis import given
from hypothesis import strategies as st
from spacy.tokens import Doc, DocBin
from typer.testing import CliRunner

from spacy_bert.cli.app import app
from spacy_bert.datasets.conllu import Counts, read_conllu, write_conllu
from spacy_bert.datasets.writing import BadRows
from tests.shared_data import SHARED, needs_shared

NLP = spacy.blank("en")

TREEBANK = """# newdoc id = one
# sent_id = 1
# text = They didn't sleep.
1\tThey\tthey\tPRON\tPRP\tCase=Nom|Number=Plur\t4\tnsubj\t_\t_
2-3\tdidn't\t_\t_\t_\t_\t_\t_\t_\t_
2\tdid\tdo\tAUX\tVBD\tMood=Ind\t4\taux\t_\t_
3\tn't\tnot\tPART\tRB\t_\t4\tadvmod\t_\t_
4\tsleep\tsleep\tVERB\tVB\tVerbForm=Inf\t0\troot\t_\tSpaceAfter=No
5\t.\t.\tPUNCT\t.\t_\t4\tpunct\t_\t_

# text = _ du lac
1\t_\t_\tSYM\tNFP\t_\t4\tdep\t_\t_
2-3\tdu\t_\t_\t_\t_\t_\t_\t_\t_
2\tde\tde\tADP\t_\t_\t4\tcase\t_\t_
3\tle\tle\tDET\t_\t_\t4\tdet\t_\t_
4\tlac\tlac\tNOUN\t_\t_\t0\troot\t_\tSpaceAfter=No|Gloss=lake
4.1\tbleu\tbleu\tADJ\t_\t_\t_\t_\t4:amod\t_

# newdoc
# text = Go!
1\tGo\tgo\tVERB\tVB\t_\t0\troot\t_\tSpaceAfter=No
2\t!\t!\tPUNCT\t.\t_\t1\tpunct\t_\t_
"""


def write(path: Path, text: str) -> Path:
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


def run(
    source: Path, *, bad: BadRows | None = None, documents: bool = False
) -> tuple[list[Doc], Counts]:
    output = source.parent / "out.spacy"
    counts = write_conllu(source, output, NLP.vocab, bad or BadRows(), documents=documents)
    return list(DocBin().from_disk(output).get_docs(NLP.vocab)), counts


@pytest.mark.parametrize("name", ["x.conllu", "x.conllu.gz"])
def test_a_sentence_a_doc(tmp_path: Path, name: str) -> None:
    docs, counts = run(write(tmp_path / name, TREEBANK))
    assert counts == Counts(documents=2, sentences=3, words=11, multiword=2)
    assert [doc.text for doc in docs] == ["They didn't sleep.", "_ de le lac", "Go!"]
    first = docs[0]
    assert [token.text for token in first] == ["They", "did", "n't", "sleep", "."]
    assert [token.head.i for token in first] == [3, 3, 3, 3, 3]
    assert [token.dep_ for token in first] == ["nsubj", "aux", "advmod", "ROOT", "punct"]
    assert [token.pos_ for token in first] == ["PRON", "AUX", "PART", "VERB", "PUNCT"]
    assert [token.tag_ for token in first] == ["PRP", "VBD", "RB", "VB", "."]
    assert [token.lemma_ for token in first] == ["they", "do", "not", "sleep", "."]
    assert str(first[0].morph) == "Case=Nom|Number=Plur"
    assert not first[2].morph
    assert [token.lemma_ for token in docs[1]] == ["_", "de", "le", "lac"]
    assert [token.tag_ for token in docs[1]] == ["NFP", "", "", ""]


def test_a_document_a_doc(tmp_path: Path) -> None:
    docs, counts = run(write(tmp_path / "x.conllu", TREEBANK), documents=True)
    assert counts.documents == 2
    assert [doc.text for doc in docs] == ["They didn't sleep. _ de le lac", "Go!"]
    assert [sentence.text for sentence in docs[0].sents] == ["They didn't sleep.", "_ de le lac"]
    assert [token.head.i for token in docs[0]] == [3, 3, 3, 3, 3, 8, 8, 8, 8]
    without = write(tmp_path / "y.conllu", TREEBANK.replace("newdoc", "new"))
    with pytest.raises(ValueError, match="no line `# newdoc`: only sentences"):
        run(without, documents=True)


def test_without_trees(tmp_path: Path) -> None:
    rows = "1\ta\t_\t_\t_\t_\t_\t_\t_\t_\n2\tb\t_\t_\t_\t_\t_\t_\t_\t_\n\n"
    (doc,), _ = run(write(tmp_path / "x.conllu", f"# newdoc\n{rows}{rows}"), documents=True)
    assert not doc.has_annotation("DEP")
    assert [len(sentence) for sentence in doc.sents] == [2, 2]


def row(word: object, head: object = 0, form: str = "a", pos: str = "X") -> str:
    return f"{word}\t{form}\ta\t{pos}\tX\t_\t{head}\tdep\t_\t_\n"


@pytest.mark.parametrize(
    ("rows", "line", "problem"),
    [
        ("1\ta\n", 1, "expected 10 columns between tabs, got 2"),
        (row(1) + row(3, 1), 2, "the word is numbered 3: expected 2"),
        (row("x"), 1, "id 'x' is none of a word (3), 3-4 and 3.1"),
        (row("1.1"), 1, "the sentence has no word"),
        (row(1) + row("1-2"), 2, "the sentence has no words 1 to 2"),
        (row(1, form=""), 1, "expected a word in column 2, got ''"),
        (row(1, form="a\x1eb"), 1, r"expected a word in column 2, got 'a\x1eb'"),
        (row(1, pos="NN"), 1, "'NN' is no universal part of speech"),
        (row(1) + row(2, 3), 2, "head '3' is no word of the sentence: expected 0 to 2"),
        (row(1) + row(2, "_"), 2, "head '_' is no word of the sentence"),
        (row(1) + row(2), 2, "2 words of the sentence have head 0: expected 1"),
        (row(1, 2) + row(2, 1), 1, "0 words of the sentence have head 0: expected 1"),
        (row(1) + row(2, 3) + row(3, 2), 2, "the heads go round in a circle"),
        (row(1) + row(2, 2), 2, "the heads go round in a circle"),
    ],
)
def test_malformed_lines_are_fatal_or_skipped(
    tmp_path: Path, rows: str, line: int, problem: str
) -> None:
    source = write(tmp_path / "x.conllu", f"{rows}\n{row(1, form='fine')}\n")
    with pytest.raises(ValueError, match="line") as caught:
        run(source)
    assert str(caught.value).startswith(f"{source}, line {line}: {problem}")
    bad = BadRows(skip=True)
    (doc,), _ = run(source, bad=bad)
    assert doc.text == "fine"
    assert bad.problems == [str(caught.value)]


@st.composite
def trees(draw: st.DrawFn) -> list[int]:
    """Heads of a tree, of any shape, counted from 1; 0 is the root's."""
    size = draw(st.integers(1, 7))
    order = draw(st.permutations(range(size)))
    heads = [0] * size
    for place in range(1, size):
        heads[order[place]] = order[draw(st.integers(0, place - 1))] + 1
    return heads


@given(st.lists(trees(), min_size=1, max_size=4))
def test_any_tree_comes_back(tmp_path_factory: pytest.TempPathFactory, found: list[list[int]]):
    text = "# newdoc\n" + "\n".join(
        "".join(row(place, head) for place, head in enumerate(heads, start=1)) for heads in found
    )
    source = write(tmp_path_factory.mktemp("trees") / "x.conllu", text)
    for documents in (False, True):
        docs = list(read_conllu(source, NLP.vocab, documents=documents))
        sentences = [sentence for doc in docs for sentence in doc.sents]
        back = [
            [0 if t.head == t else t.head.i - sentence.start + 1 for t in sentence]
            for sentence in sentences
        ]
        assert back == found


def test_the_command(tmp_path: Path) -> None:
    source, output = write(tmp_path / "x.conllu", TREEBANK + "1\tx\n"), tmp_path / "out.spacy"
    failed = CliRunner().invoke(app, ["data", "conllu", str(source), str(output)])
    assert failed.exit_code == 1
    message = f"{source}, line 23: expected 10 columns between tabs, got 2"
    assert failed.stderr == f"Error: {message}\n"
    assert not output.exists()
    arguments = ["data", "conllu", str(source), str(output), "--skip-bad-rows"]
    (tmp_path / "x.conllu").write_text(f"{TREEBANK}\n1\tx\n", encoding="utf-8")
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    assert done.stdout == (
        f"{output}: 2 documents, 3 sentences, 11 words, 2 multiword tokens; 1 malformed "
        "sentences left out\n"
    )


@needs_shared
def test_the_real_file(tmp_path: Path) -> None:
    source = SHARED / "ud_en_ewt" / "en_ewt-ud-dev.conllu.gz"
    lines = gzip.decompress(source.read_bytes()).decode().split("\n")
    texts = [line.removeprefix("# text = ") for line in lines if line.startswith("# text = ")]
    docs = list(read_conllu(source, NLP.vocab))
    assert len(docs) == len(texts) == 2001
    assert [doc.text for doc in docs] == [text.strip() for text in texts]
    assert sum(map(len, docs)) == 25147
    together = list(read_conllu(source, NLP.vocab, documents=True))
    assert len(together) == 318
    sentences = [sentence for doc in together for sentence in doc.sents]
    assert [sentence.text for sentence in sentences] == [doc.text for doc in docs]
