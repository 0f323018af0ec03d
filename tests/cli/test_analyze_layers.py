"""The commands that look at layers: what they print, the page that they write, and their errors."""

from __future__ import annotations

from pathlib import Path

import pytest
import spacy
from spacy.tokens import DocBin, Span
from typer.testing import CliRunner

from spacy_bert.cli.app import app
from tests.cli.test_analyze import saved
from tests.conftest import SENTENCES

NOUNS = (("dog", "NN", "Sing"), ("foxes", "NNS", "Plur"), ("list", "NN", "Sing"))
VERBS = {"Sing": ("jumps", "VBZ"), "Plur": ("jump", "VBP")}
WORD = "{}\t{}\t{}\t{}\t{}\t{}\t{}\t{}\t_\t_\n"


def treebank(count: int) -> str:
    """Short sentences of subject, verb and object, and some of two clauses."""
    text = ""
    for number in range(count):
        noun, tag, kind = NOUNS[number % 3]
        other, other_tag, other_kind = NOUNS[(number // 3) % 3]
        verb, verb_tag = VERBS[kind]
        rows = [
            ("The", "DET", "DT", "_", 2, "det"),
            (noun, "NOUN", tag, f"Number={kind}", 3, "nsubj"),
            (verb, "VERB", verb_tag, f"Number={kind}|Tense=Pres", 0, "root"),
            ("a", "DET", "DT", "_", 5, "det"),
            (other, "NOUN", other_tag, f"Number={other_kind}", 3, "obj"),
        ] + [("now", "ADV", "RB", "_", 3, "advmod")] * (number % 4)
        text += "".join(
            WORD.format(i, word, word, pos, tag, morph, head, dep)
            for i, (word, pos, tag, morph, head, dep) in enumerate(rows, start=1)
        )
        text += "\n"
    return text


@pytest.fixture
def trees(tmp_path: Path) -> Path:
    path = tmp_path / "trees.conllu"
    path.write_text(treebank(60), encoding="utf8")
    return path


def run(*args: object) -> str:
    result = CliRunner().invoke(app, ["analyze", *map(str, args)])
    assert result.exit_code == 0, result.output
    return result.output


def test_probes(checkpoint: Path, trees: Path, tmp_path: Path) -> None:
    page = tmp_path / "probe.html"
    output = run(
        "probe", checkpoint, trees, trees, "--task", "tag", "--epochs", 2,
        "--other", f"again={checkpoint}", "--report", page,
    )  # fmt: skip
    assert "again: tag is read best off layer" in output
    assert "selectivity" in output
    assert "chart-probing-tag" in page.read_text(encoding="utf8")
    output = run("probe", checkpoint, trees, trees, "--task", "tag", "--epochs", 1, "--online-code")
    assert "times less than in the uniform code" in output
    output = run("probe", checkpoint, trees, trees, "--task", "depth")
    assert "depth in the tree is predicted best from layer" in output
    output = run("pipeline", checkpoint, trees, trees, "--tasks", "pos,dependency", "--epochs", 1)
    assert "expected layer" in output


def test_structure(checkpoint: Path, trees: Path, tmp_path: Path) -> None:
    output = run("structure", checkpoint, trees)
    for name in ("TopConst", "SubjNum", "verbs", "random tree", "joining neighbours"):
        assert name in output
    nlp, docs = spacy.blank("en"), []
    for text in SENTENCES:
        doc = nlp(text)
        doc.ents = [Span(doc, 0, 2, label="A"), Span(doc, 3, 6, label="B")]
        docs.append(doc)
    DocBin(docs=docs).to_disk(tmp_path / "chunks.spacy")
    assert "cluster by kind most in layer" in run(
        "structure", checkpoint, tmp_path / "chunks.spacy"
    )


def test_similarity_and_geometry(checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "texts.txt").write_text("\n".join(SENTENCES * 30), encoding="utf8")
    page = tmp_path / "compare.html"
    output = run(
        "compare", checkpoint, tmp_path / "texts.txt", "--other", f"again={checkpoint}",
        "--report", page,
    )  # fmt: skip
    assert "least alike in layer" in output
    assert "chart-cka-other-1" in page.read_text(encoding="utf8")
    text = "\n".join(f"{text} {i}" for i, text in enumerate(SENTENCES * 4))
    (tmp_path / "texts.txt").write_text(text, encoding="utf8")
    assert "dimensions" in run("geometry", checkpoint, tmp_path / "texts.txt", "--points", 100)


def test_stitches(checkpoint: Path, tmp_path: Path) -> None:
    model, data = saved("exclusive", checkpoint, tmp_path)
    output = run("stitch", checkpoint, model, data, data, "--steps", 4, "--layers", "0,1")
    assert "by itself scores" in output


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["probe", "{}", "trees.conllu", "trees.conllu", "--task", "x"], "unknown task 'x'"),
        (
            ["probe", "{}", "trees.conllu", "trees.conllu", "--task", "depth", "--online-code"],
            "--online-code sends labels, and depth is a number",
        ),
        (["probe", "{}", "texts.txt", "texts.txt", "--task", "depth"], "do not differ in depth"),
        (["probe", "{}", "texts.txt", "texts.txt"], "nothing to probe for 'part of speech'"),
        (["compare", "{}", "texts.txt"], "take more, or less"),
        (["compare", "{}", "texts.txt", "--other", "x"], "give NAME=MODEL"),
        (["geometry", "{}", "texts.txt", "--label", "x"], "unknown label 'x'"),
        (["structure", "{}", "texts.txt"], "neither phrases in doc.ents nor trees"),
    ],
)
def test_errors_in_one_line(
    checkpoint: Path, trees: Path, monkeypatch: pytest.MonkeyPatch, args: list[str], message: str
) -> None:
    monkeypatch.chdir(trees.parent)
    Path("texts.txt").write_text("A list.\nA dog.\n", encoding="utf8")
    result = CliRunner().invoke(app, ["analyze", *(arg.format(checkpoint) for arg in args)])
    assert result.exit_code == 1
    (line,) = result.stderr.strip().splitlines()
    assert line.startswith("Error: ")
    assert message in line
