"""The commands that look at layers: what they print, the page that they write, and their errors."""

from __future__ import annotations

import gzip
import json
import re
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
        "--other", f"again={checkpoint}", "--random", "--report", page,
    )  # fmt: skip
    assert "again: tag is read best off layer" in output
    assert "Random weights" in output
    assert "selectivity" in output
    text = page.read_text(encoding="utf8")
    assert "chart-probing-tag" in text
    assert f"60 Docs; learned from 60 Docs of {trees}" in text
    assert f"again: {checkpoint}; Random weights: drawn as before pre-training, seed 0" in text
    output = run("probe", checkpoint, trees, trees, "--task", "tag", "--linear")
    assert "tag is read best off layer" in output
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


def test_official_files_of_structure(checkpoint: Path, trees: Path, tmp_path: Path) -> None:
    rows = [
        {"sentence_good": "The dog jumps.", "sentence_bad": "The dog jump.", "UID": kind}
        for kind in ("agreement",) * 3 + ("islands",)
    ]
    pairs = tmp_path / "blimp.jsonl.gz"
    pairs.write_bytes(gzip.compress("\n".join(map(json.dumps, rows)).encode()))
    output = run("structure", checkpoint, pairs, "--limit", 2)
    assert "Of 3 pairs, the right sentence is the likelier one in" in output
    lines = [
        f"{part}\t{label}\t{word} dog jumps"
        for part, count in (("tr", 20), ("va", 6), ("te", 4))
        for _ in range(count)
        for label, word in (("A", "the"), ("B", "a"))
    ]
    task = tmp_path / "article.txt"
    task.write_text("\n".join(lines), encoding="utf8")
    assert re.search(r"article +\d +8 +50\.0", run("structure", checkpoint, task))
    assert re.search(r"article +\d +6 +50\.0", run("structure", checkpoint, task, "--limit", 6))
    header = ["correct_number", "form", "class", "prefix", "n_attr", "sent"]
    cells = [
        "plur",
        "jump",
        "correct",
        "The dogs of the fox",
        "1",
        "The dogs of the fox jump <eos>",
    ]
    table = tmp_path / "generated.tab"
    table.write_text("\n".join("\t".join(row) for row in (header, *[cells] * 5)), encoding="utf8")
    output = run("structure", checkpoint, trees, "--test", table)
    assert "of 5 verbs" in output


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
        (["structure", "{}", "texts.txt"], "texts.txt, line 1: expected tr, va or te"),
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
