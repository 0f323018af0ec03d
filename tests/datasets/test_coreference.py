"""GAP and DPR: pronouns stand in the cluster of who is meant."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import pytest
import spacy
from spacy.language import Language
from spacy.tokens import Doc, DocBin
from typer.testing import CliRunner

from spacy_bert.cli.app import app
from spacy_bert.datasets.coreference import GAP_COLUMNS, Counts, write_dpr, write_gap
from spacy_bert.datasets.writing import BadRows
from tests.shared_data import SHARED, needs_shared

NLP = spacy.blank("en")
HEADER = "\t".join([*GAP_COLUMNS, "URL"])
TEXT = 'Ann saw "Bob Ray" and Cid. Ann told Bob that he smiled.'

Writer = Callable[[Path, Path, Language, BadRows], Counts]


def row(name: str, a: str, b: str, **changes: str) -> str:
    cells = {
        "ID": name,
        "Text": TEXT,
        "Pronoun": "he",
        "Pronoun-offset": str(TEXT.index("he ")),
        "A": "Bob Ray",
        "A-offset": "9",
        "A-coref": a,
        "B": "Cid",
        "B-offset": str(TEXT.index("Cid")),
        "B-coref": b,
        "URL": "http://x",
    }
    return "\t".join({**cells, **changes}.values())


def gap(path: Path, *rows: str) -> Path:
    text = "\n".join([HEADER, *rows, ""])
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


def run(write: Writer, source: Path, bad: BadRows | None = None) -> tuple[list[Doc], Counts]:
    output = source.parent / "out.spacy"
    counts = write(source, output, NLP, bad or BadRows())
    return list(DocBin().from_disk(output).get_docs(NLP.vocab)), counts


def clusters(doc: Doc) -> list[list[tuple[str, int]]]:
    """The text of each mention, and where it stands."""
    groups = [doc.spans[f"coref_clusters_{number}"] for number in range(1, len(doc.spans))]
    return [[(span.text, span.start_char) for span in group] for group in groups]


@pytest.mark.parametrize("name", ["gap.tsv", "gap.tsv.gz"])
def test_gap(tmp_path: Path, name: str) -> None:
    source = gap(
        tmp_path / name, row("a", "TRUE", "FALSE"), row("b", "FALSE", "TRUE"), row("c", "F", "F")
        .replace("\tF\t", "\tFALSE\t").replace("\tF\t", "\tFALSE\t")
    )  # fmt: skip
    docs, counts = run(write_gap, source)
    assert counts == Counts(pronouns=3, meant={"1": 1, "2": 1, "neither": 1})  # type: ignore[arg-type]
    he = ("he", TEXT.index("he "))
    bob, cid = ("Bob Ray", 9), ("Cid", TEXT.index("Cid"))
    assert [clusters(doc) for doc in docs] == [
        [[bob, he], [cid]],
        [[bob], [cid, he]],
        [[bob], [cid], [he]],
    ]
    assert [[span.text for span in doc.spans["pronouns"]] for doc in docs] == [["he"]] * 3
    assert docs[0].text == TEXT


def test_mentions_within_tokens_are_counted(tmp_path: Path) -> None:
    source = gap(tmp_path / "x.tsv", row("a", "TRUE", "FALSE", **{"A": "Bob Ra"}))
    (doc,), counts = run(write_gap, source)
    assert counts.inexact == 1
    assert doc.spans["coref_clusters_1"][0].text == "Bob Ray"
    assert doc.spans["coref_clusters_1"].attrs["texts"][0] == "Bob Ra"


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"A-offset": "10"}, "A-offset is '10', but A 'Bob Ray' does not stand there"),
        ({"Pronoun-offset": "-1"}, "Pronoun-offset is '-1', but Pronoun 'he' does not stand there"),
        ({"B": ""}, f"B-offset is '{TEXT.index('Cid')}', but B '' does not stand there"),
        ({"B-coref": "yes"}, "B-coref 'yes' is neither TRUE nor FALSE"),
        ({"B-coref": "TRUE"}, "A-coref and B-coref are both TRUE: a pronoun means one at most"),
        ({"URL": "x\ty"}, "12 columns instead of 11"),
        ({"Text": "a\x1eb"}, "the text holds U+001E, which marks the borders of segments"),
    ],
)
def test_malformed_rows_of_gap(tmp_path: Path, changes: dict[str, str], problem: str) -> None:
    good = row("ok", "TRUE", "FALSE")
    source = gap(tmp_path / "x.tsv", good, row("bad", "TRUE", "FALSE", **changes), good)
    with pytest.raises(ValueError, match="line 3") as caught:
        run(write_gap, source)
    assert str(caught.value) == f"{source}, line 3: {problem}"
    bad = BadRows(skip=True)
    docs, _ = run(write_gap, source, bad)
    assert len(docs) == 2
    assert bad.problems == [str(caught.value)]


def test_gap_needs_its_header(tmp_path: Path) -> None:
    source = tmp_path / "x.tsv"
    source.write_text("ID\tText\n")
    with pytest.raises(ValueError, match=r"x\.tsv has no column Pronoun, Pronoun-offset, A, "):
        run(write_gap, source)


DPR = """The dog bit the cat because it was mean.
it
The dog,the cat
The dog

The priests saw the suspects they met, since they feared them.
they
The priests,the suspects
The priests


When Ann called, Bob knew she was late.
she
ann, Bob
Ann
"""


def test_dpr(tmp_path: Path) -> None:
    source = tmp_path / "dpr.txt"
    source.write_text(DPR)
    docs, counts = run(write_dpr, source)
    assert counts == Counts(pronouns=3, meant={"1": 3}, repeated=1)  # type: ignore[arg-type]
    assert [clusters(doc) for doc in docs] == [
        [[("The dog", 0), ("it", 28)], [("the cat", 12)]],
        # The first "they" behind both candidates.
        [[("The priests", 0), ("they", 29)], [("the suspects", 16)]],
        [[("Ann", 5), ("she", 26)], [("Bob", 17)]],
    ]


@pytest.mark.parametrize(
    ("block", "problem"),
    [
        ("A b.\nb\nA,b", "expected sentence, pronoun, candidates and answer, got 3 lines"),
        ("A saw it.\nit\nA\nA", "expected two candidates with a comma between, got 'A'"),
        ("A saw b.\nit\nA,b\nA", "'it' does not stand in the sentence"),
        ("A saw it.\nit\nA,bee\nA", "'bee' does not stand in the sentence"),
        ("A and it.\nit\nA,it\nB", "the answer 'B' is none of the candidates 'A,it'"),
    ],
)
def test_malformed_blocks_of_dpr(tmp_path: Path, block: str, problem: str) -> None:
    source = tmp_path / "dpr.txt"
    first, *others = DPR.split("\n\n")
    source.write_text("\n\n".join([first, block, *others]))
    with pytest.raises(ValueError, match="line 6") as caught:
        run(write_dpr, source)
    assert str(caught.value) == f"{source}, line 6: {problem}"
    bad = BadRows(skip=True)
    docs, _ = run(write_dpr, source, bad)
    assert len(docs) == 3
    assert bad.problems == [str(caught.value)]


def test_the_commands(tmp_path: Path) -> None:
    tsv = gap(tmp_path / "x.tsv", row("a", "TRUE", "FALSE"), row("b", "TRUE", "x"))
    output = tmp_path / "out.spacy"
    failed = CliRunner().invoke(app, ["data", "gap", str(tsv), str(output)])
    assert failed.exit_code == 1
    problem = f"{tsv}, line 3: B-coref 'x' is neither TRUE nor FALSE\n"
    assert failed.stderr.endswith(f"Error: {problem}")
    assert not output.exists()
    done = CliRunner().invoke(app, ["data", "gap", str(tsv), str(output), "--skip-bad-rows"])
    assert done.stderr.endswith(f"Skipped {problem}")
    assert done.stdout == (
        f"{output}: 1 pronouns: 1 mean the first candidate, 0 the second, 0 neither; 0 stand in "
        "their sentence several times, 0 mentions begin or end in a token; 1 malformed left out\n"
    )
    source = tmp_path / "dpr.txt"
    source.write_text(DPR)
    done = CliRunner().invoke(app, ["data", "dpr", str(source), str(output)])
    assert "3 pronouns: 3 mean the first candidate" in done.stdout
    assert "1 stand in their sentence several times" in done.stdout


@needs_shared
@pytest.mark.parametrize(
    ("write", "name", "meant"),
    [
        (write_gap, "gap/gap-development.tsv.gz", {"1": 874, "2": 925, "neither": 201}),
        (write_gap, "gap/gap-validation.tsv.gz", {"1": 187, "2": 205, "neither": 62}),
        (write_dpr, "dpr/test.c.txt", {"1": 282, "2": 282}),
    ],
)
def test_official_files(tmp_path: Path, write: Writer, name: str, meant: dict[str, int]) -> None:
    counts = write(SHARED / name, tmp_path / "out.spacy", NLP, BadRows())
    assert counts.meant == meant
    assert counts.inexact < 10
