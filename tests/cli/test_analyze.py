"""The commands that look inside: what they print, the page that they write, and their errors."""

from __future__ import annotations

from pathlib import Path

import pytest
import spacy
from spacy.tokens import DocBin
from spacy.training import Example
from typer.testing import CliRunner

from spacy_bert.cli.app import app
from tests.analysis.tasks import pairs, task
from tests.conftest import SENTENCES
from tests.pipeline.lifecycle import sentences

TREE = """1\tThe\tthe\tDET\tDT\t_\t2\tdet\t_\t_
2\tdog\tdog\tNOUN\tNN\t_\t3\tnsubj\t_\t_
3\tchases\tchase\tVERB\tVBZ\t_\t0\troot\t_\t_
4\ta\ta\tDET\tDT\t_\t5\tdet\t_\t_
5\tfox\tfox\tNOUN\tNN\t_\t3\tobj\t_\t_

"""


def run(*args: object) -> str:
    result = CliRunner().invoke(app, ["analyze", *map(str, args)])
    assert result.exit_code == 0, result.output
    return result.output


def saved(kind: str, checkpoint: Path, folder: Path) -> tuple[Path, Path]:
    """A trained pipeline and its gold standard on disk."""
    one = task(kind, checkpoint)
    one.nlp.to_disk(folder / "model")
    docs = [example.reference for example in one.examples]
    DocBin(docs=docs).to_disk(folder / "gold.spacy")
    return folder / "model", folder / "gold.spacy"


def test_what_attention_looks_at(checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "texts.txt").write_text("\n".join(SENTENCES), encoding="utf8")
    page = tmp_path / "page.html"
    output = run("attention", checkpoint, tmp_path / "texts.txt", "--report", page)
    assert "[SEP]" in output
    assert f"Report: {page}" in output
    text = page.read_text(encoding="utf8")
    assert "<h2>" in text
    assert str(tmp_path / "texts.txt") in text
    assert "2 texts" not in run("attention", checkpoint, tmp_path / "texts.txt", "--limit", "3")


def test_heads_as_parsers(checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "trees.conllu").write_text(TREE * 40, encoding="utf8")
    output = run("relations", checkpoint, tmp_path / "trees.conllu", "--parser")
    assert "det" in output
    assert "UAS" in output


@pytest.mark.parametrize(
    ("command", "kind", "options", "said"),
    [
        ("heads", "exclusive", ["--keep", "0.5"], "which flatters the choice"),
        ("words", "ner", [], "decision"),
        ("explanations", "exclusive", [], "ermut"),
        ("answers", "qa", [], "questions"),
    ],
)
def test_trained_components(
    checkpoint: Path, tmp_path: Path, command: str, kind: str, options: list[str], said: str
) -> None:
    model, data = saved(kind, checkpoint, tmp_path)
    page = tmp_path / f"{command}.html"
    output = run(command, model, data, "--limit", "6", "--report", page, *options)
    assert said in output
    assert page.stat().st_size > 100_000


def test_pairs(checkpoint: Path, tmp_path: Path) -> None:
    one = task("exclusive", checkpoint)
    model, _ = saved("exclusive", checkpoint, tmp_path)
    labels = one.nlp.get_pipe(one.component).labels
    docs = [example.reference for example in pairs(one.nlp)]
    for number, doc in enumerate(docs):
        doc.cats = {label: float(label == labels[number % len(labels)]) for label in labels}
    DocBin(docs=docs).to_disk(tmp_path / "pairs.spacy")
    assert "passage" in run("pairs", model, tmp_path / "pairs.spacy")


def test_code_and_one_text(checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("def add(a, b):\n    c = a + b\n    return c\n")
    assert "CAT" in run("code", checkpoint, tmp_path / "a.py")
    page = tmp_path / "trace.html"
    run("trace", checkpoint, "Does it return?|||A list keeps values.", "--report", page)
    assert "<svg" in page.read_text(encoding="utf8")


def test_everything_on_one_page(checkpoint: Path, tmp_path: Path) -> None:
    parts = []
    for kind in ("exclusive", "qa"):
        (tmp_path / kind).mkdir()
        model, data = saved(kind, checkpoint, tmp_path / kind)
        parts.append(f"{kind}={model}:{data}")
    (tmp_path / "a.py").write_text("def add(a, b):\n    c = a + b\n    return c\n")
    page = tmp_path / "inside.html"
    options = ["--code", tmp_path / "a.py", "--before", checkpoint, "--limit", "5"]
    output = run("all", page, *parts, *options)
    for title in ("=== exclusive: bert, bert_textcat ===", "=== qa: ", "=== Python code ==="):
        assert title in output
    text = page.read_text(encoding="utf8")
    assert "chart-exclusive-heads-importance" in text
    assert "chart-qa-heads-importance" in text
    assert "chart-qa-answers-phases" in text


def test_of_several_components_the_first_is_looked_at(checkpoint: Path, tmp_path: Path) -> None:
    nlp = spacy.blank("en")
    nlp.add_pipe("bert", config={"model": {"name": str(checkpoint)}})
    nlp.add_pipe("bert_ner")
    nlp.add_pipe("bert_textcat")
    docs = sentences()[:6]
    nlp.initialize(lambda: [Example(nlp.make_doc(doc.text), doc) for doc in docs])
    nlp.to_disk(tmp_path / "model")
    DocBin(docs=docs).to_disk(tmp_path / "gold.spacy")
    part = f"both={tmp_path / 'model'}:{tmp_path / 'gold.spacy'}"
    output = run("all", tmp_path / "inside.html", part, "--limit", "4")
    assert "Of bert_ner, bert_textcat, bert_ner is looked at." in output
    assert "Which attention heads bert_ner needs" in output


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["attention", "nowhere", "texts.txt"], "nowhere: is neither a saved pipeline"),
        (["attention", "{checkpoint}", "texts.csv"], "texts.csv: must end in"),
        (["attention", "{checkpoint}", "texts.txt", "--report", "out"], "name end in .html"),
        (["all", "out.html", "A={checkpoint}:texts.txt"], "give NAME=MODEL:DATA"),
        (["heads", "{checkpoint}", "texts.txt"], "no bert_textcat, bert_ner"),
        (["relations", "{checkpoint}", "texts.txt"], "tree"),
        (["answers", "{checkpoint}", "texts.txt"], "no question with a context"),
    ],
)
def test_errors_in_one_line(
    checkpoint: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    args: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "texts.txt").write_text("A list.\nA dog.\n", encoding="utf8")
    args = [arg.replace("{checkpoint}", str(checkpoint)) for arg in args]
    result = CliRunner().invoke(app, ["analyze", *args])
    assert result.exit_code == 1
    (line,) = result.stderr.strip().splitlines()
    assert line.startswith("Error: ")
    assert message in line
