"""bAbI's stories: every answer is where its supporting facts say."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest
import spacy
from spacy.tokens import Doc, DocBin
from typer.testing import CliRunner

from spacy_bert.cli.app import app
from spacy_bert.datasets.babi import Counts, write_babi
from spacy_bert.datasets.writing import BadRows
from tests.shared_data import SHARED, needs_shared

NLP = spacy.blank("en")

# Lines of tasks 2 (two supporting facts), 6 (yes or no), 7 (counting), 9 (negation).
STORY = """1 Mary got the milk there.
2 John moved to  the bedroom.
3 Mary moved to the bathroom.
4 Where is the milk? \tbathroom\t1 3
5 Mary is no longer in the bathroom.
6 Is Mary in the bathroom? \tno\t5
7 How many objects is Mary carrying? \tone\t1
8 Where was Mary? \tbathroom\t5 3
1 Sandra journeyed to the office.
2 Where is Sandra? \toffice\t1
"""


def write(path: Path, text: str) -> Path:
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


def run(
    source: Path, *, bad: BadRows | None = None, skip_other: bool = False
) -> tuple[list[Doc], Counts]:
    output = source.parent / "out.spacy"
    counts = write_babi(source, output, NLP, bad or BadRows(), skip_other=skip_other)
    return list(DocBin().from_disk(output).get_docs(NLP.vocab)), counts


def texts(doc: Doc, key: str) -> list[str]:
    return [span.text for span in doc.spans[key]]


@pytest.mark.parametrize("name", ["qa2.txt", "qa2.txt.gz"])
def test_a_question_sees_the_story_so_far(tmp_path: Path, name: str) -> None:
    docs, counts = run(write(tmp_path / name, STORY), skip_other=True)
    assert counts == Counts(stories=2, questions=3, unsupported=0, other=2)
    told = "Mary got the milk there. John moved to the bedroom. Mary moved to the bathroom."
    assert [doc.text.split("\x1e") for doc in docs] == [
        ["Where is the milk?", told],
        ["Where was Mary?", f"{told} Mary is no longer in the bathroom."],
        ["Where is Sandra?", "Sandra journeyed to the office."],
    ]
    assert texts(docs[0], "supporting_facts") == [
        "Mary got the milk there.",
        "Mary moved to the bathroom.",
    ]
    assert [texts(doc, "answers") for doc in docs] == [["bathroom"], ["bathroom"], ["office"]]
    # The latest supporting fact has it, not the first one that is named, nor an earlier one.
    (answer,), facts = docs[1].spans["answers"], docs[1].spans["supporting_facts"]
    assert facts[-1].start <= answer.start < facts[-1].end
    assert answer.start_char == docs[1].text.rindex("bathroom")


def test_answers_that_no_fact_holds(tmp_path: Path) -> None:
    story = "1 A cat sat.\n2 A dog sat.\n3 A cat ran.\n4 Who? \tcat\t2\n5 Who? \tcat\n"
    docs, counts = run(write(tmp_path / "x.txt", story))
    assert (counts.questions, counts.unsupported) == (2, 1)
    for doc in docs:
        (answer,) = doc.spans["answers"]
        assert answer.start_char == doc.text.rindex("cat")
    assert texts(docs[0], "supporting_facts") == ["A dog sat."]
    assert "supporting_facts" not in docs[1].spans


@pytest.mark.parametrize(
    ("text", "line", "problem"),
    [
        ("1 A.\n2 B? \tyes\t1\n", 2, "the answer 'yes' is no word of the story: --skip-other-answ"),
        ("1 A no B.\n2 B? \tNo\t1\n", 2, "the answer 'No' is no word"),
        ("1 A.\n2 B? \tn,w\t1\n", 2, "the answer 'n,w' is no word"),
        ("1 A.\n2 B? \tA\t3\n", 2, "the supporting fact 3 is no earlier fact of the story"),
        ("1 A.\n2 B? \tA\t1\n3 B? \tA\t2\n", 3, "the supporting fact 2 is no earlier"),
        ("1 A.\n2 B? \tA\tx\n", 2, "the supporting fact x is no earlier"),
        ("1 A.\n2 B? \t\t1\n", 2, "expected a question, a tab, its answer"),
        ("1 A.\n2 B? \tA\t1\t1\n", 2, "expected a question, a tab, its answer"),
        ("1 A.\n\n3 A.\n", 3, "the line is numbered 3: expected 2, or 1 where a story begins"),
        ("1 A.\nMary sat.\n", 2, "expected a number, a space and a sentence"),
        ("1 A.\n2\n", 2, "expected a number, a space and a sentence"),
        ("1 A.\n2 B\x1eb?\tA\t1\n", 2, r"part 1 of join holds U+001E"),
    ],
)
def test_malformed_lines_are_fatal_or_skipped(
    tmp_path: Path, text: str, line: int, problem: str
) -> None:
    source = write(tmp_path / "x.txt", f"{text}1 C sat.\n2 Who? \tC\t1\n")
    with pytest.raises(ValueError, match="line") as caught:
        run(source)
    assert str(caught.value).startswith(f"{source}, line {line}: {problem}")
    bad = BadRows(skip=True)
    docs, _ = run(source, bad=bad)
    assert bad.problems == [str(caught.value)]
    assert docs[-1].text == "Who?\x1eC sat."


def test_a_line_that_cannot_be_read_costs_nothing_else(tmp_path: Path) -> None:
    source = write(tmp_path / "x.txt", "1 A sat.\nB sat.\n3 C sat.\n4 Who? \tC\t3\n")
    bad = BadRows(skip=True)
    (doc,), _ = run(source, bad=bad)
    assert doc.text == "Who?\x1eA sat. C sat."
    assert len(bad.problems) == 1


def test_the_command(tmp_path: Path) -> None:
    source, output = write(tmp_path / "x.txt", STORY), tmp_path / "out.spacy"
    failed = CliRunner().invoke(app, ["data", "babi", str(source), str(output)])
    assert failed.exit_code == 1
    assert failed.stderr == (
        f"Error: {source}, line 6: the answer 'no' is no word of the story: "
        "--skip-other-answers leaves out such questions\n"
    )
    assert not output.exists()
    arguments = ["data", "babi", str(source), str(output), "--skip-other-answers"]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    assert done.stdout == (
        f"{output}: 3 questions on 2 stories, 0 answers in no supporting fact; left out: 2 "
        "questions whose answer is no word of the story, 0 malformed lines\n"
    )


@needs_shared
def test_the_real_file(tmp_path: Path) -> None:
    source = SHARED / "babi_qa1" / "qa1_single-supporting-fact_test.txt.gz"
    docs, counts = run_to(tmp_path, source)
    assert counts == Counts(stories=200, questions=1000, unsupported=0, other=0)
    rows = [
        line for line in gzip.decompress(source.read_bytes()).decode().split("\n") if "\t" in line
    ]
    for doc, row in zip(docs, rows, strict=True):
        question, answer, _ = row.split("\t")
        assert doc.text.split("\x1e")[0] == question.split(" ", 1)[1].strip()
        (span,), (fact,) = doc.spans["answers"], doc.spans["supporting_facts"]
        assert span.text == answer
        assert fact.start <= span.start < span.end <= fact.end
        assert fact.text.startswith(question.split()[3].rstrip("?"))


def run_to(folder: Path, source: Path) -> tuple[list[Doc], Counts]:
    counts = write_babi(source, folder / "out.spacy", NLP, BadRows())
    return list(DocBin().from_disk(folder / "out.spacy").get_docs(NLP.vocab)), counts
