from __future__ import annotations

from pathlib import Path

import pytest
import spacy
import srsly
from spacy.tokens import DocBin
from spacy.util import load_config
from typer.testing import CliRunner

from spacy_bert.cli.app import app
from spacy_bert.experiments.processes import Processes
from tests.pipeline import lifecycle

LABELS = ("A", "B")
CONFIGS = Path(__file__).parents[2] / "configs"
DOCS = 10


def textcat_scores(value: float) -> dict[str, object]:
    return {
        "cats_macro_f": value,
        "cats_micro_f": value + 0.1,
        "cats_f_per_type": {label: {"p": value, "r": value, "f": value} for label in LABELS},
    }


def ner_scores(value: float) -> dict[str, object]:
    return {
        "ents_f": value,
        "ents_p": value + 0.1,
        "ents_r": value - 0.1,
        "ents_per_type": {label: {"p": value, "r": value, "f": value} for label in LABELS},
    }


def qa_scores(value: float) -> dict[str, object]:
    return {
        "answers_f1": value,
        "answers_em": value - 0.1,
        "answers_has_f1": value,
        "answers_has_em": value - 0.1,
        "answers_no_em": value + 0.1,
    }


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """A directory such as the workflow leaves."""
    (tmp_path / "pretrained").mkdir()
    log = [
        {"step": 10, "loss": 9.0, "mlm": 8.3, "nsp": 0.7, "lr": 1e-4, "pieces_per_s": 1e4},
        {"step": 20, "loss": 7.0, "mlm": 6.3, "nsp": 0.7, "dev_mlm": 6.1, "dev_nsp_accuracy": 0.6},
    ]
    srsly.write_jsonl(tmp_path / "pretrained" / "log.jsonl", log)
    metrics = {
        "steps": 20,
        "device": "cpu",
        "pieces_per_second": 12345.6,
        "corpus": {"train": {"documents": 7, "sentences": 21, "pieces": 4321}},
        "dev_mlm_loss": 6.1,
        "unigram_cross_entropy": 6.4,
        "nsp_accuracy": 0.6,
        "nsp_baselines": {"majority": 0.5, "word_overlap": 0.7},
    }
    srsly.write_json(tmp_path / "pretrained" / "metrics.json", metrics)
    tasks = {"textcat": textcat_scores, "ner": ner_scores, "qa": qa_scores}
    for name, scores in tasks.items():
        task = tmp_path / "metrics" / name
        task.mkdir(parents=True)
        shift = 0.0 if name == "textcat" else 0.11
        for seed, value in enumerate([0.4, 0.5, 0.6]):
            srsly.write_json(task / f"pretrained-{seed}.json", scores(value + shift))
            srsly.write_json(task / f"random-{seed}.json", scores(value + shift - 0.2))
        srsly.write_json(task / "baselines.json", {"majority": scores(0.1 + shift)})
    return tmp_path


@pytest.fixture
def work(checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with a set and a config, the current one."""
    nlp = spacy.blank("en")
    docs = DocBin()
    for number in range(DOCS):
        doc = nlp.make_doc(f"the river number {number}")
        doc.cats = {"EVEN": float(number % 2 == 0), "ODD": float(number % 2)}
        docs.add(doc)
    docs.to_disk(tmp_path / "docs.spacy")
    config = load_config(CONFIGS / "textcat.cfg", interpolate=False)
    paths = {"encoder": checkpoint, "train": "docs.spacy", "dev": "docs.spacy"}
    config["paths"] |= {name: str(path) for name, path in paths.items()}
    config.to_disk(tmp_path / "config.cfg", interpolate=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The commands that ran, in this process instead of their own."""
    ran: list[list[str]] = []

    def run(self: Processes, arguments: list[str], log: Path, **options: bool) -> None:
        ran.append(arguments[1:])
        if arguments[1] == "bert":
            done = CliRunner().invoke(app, arguments[2:])
            assert done.exit_code == 0, done.output
        else:
            lifecycle.command(*arguments[1:])

    monkeypatch.setattr(Processes, "run", run)
    return ran
