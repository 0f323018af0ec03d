from __future__ import annotations

from pathlib import Path

import pytest
import spacy
from spacy.tokens import DocBin
from typer.testing import CliRunner

from spacy_bert.cli.app import app
from spacy_bert.experiments.baselines import MAJORITY, TFIDF, score_baselines

TRAIN = [("good fine film", "POS"), ("fine good play", "POS"), ("bad poor film", "NEG")]
TEST = [("good film", "POS"), ("poor bad play", "NEG")]


def write(path: Path, rows: list[tuple[str, str]]) -> Path:
    nlp = spacy.blank("en")
    docs = DocBin()
    for text, label in rows:
        doc = nlp.make_doc(text)
        doc.cats = {name: float(name == label) for name in ("POS", "NEG")}
        docs.add(doc)
    docs.to_disk(path)
    return path


def test_scores_are_spacys(tmp_path: Path) -> None:
    scores = score_baselines(write(tmp_path / "a", TRAIN), write(tmp_path / "b", TEST))
    assert scores[MAJORITY]["cats_micro_f"] == 0.5
    assert scores[MAJORITY]["cats_macro_f"] == pytest.approx((2 / 3 + 0) / 2)
    assert scores[TFIDF]["cats_micro_f"] == 1.0
    assert scores[TFIDF]["cats_f_per_type"]["POS"]["f"] == 1.0


def test_one_class_has_no_linear_model(tmp_path: Path) -> None:
    path = write(tmp_path / "a", TRAIN[:2])
    assert set(score_baselines(path, path)) == {MAJORITY}


def test_bad_files(tmp_path: Path) -> None:
    good, empty = write(tmp_path / "good", TRAIN), write(tmp_path / "empty", [])
    unlabelled = write(tmp_path / "none", [("a b", "OTHER")])
    (tmp_path / "text").write_text("not a DocBin")
    for path, message in {
        tmp_path / "missing": "no such file",
        tmp_path / "text": "not a .spacy file",
        empty: "holds no Docs",
        unlabelled: "Doc 0 has no positive doc.cats",
    }.items():
        with pytest.raises((OSError, ValueError), match=message) as caught:
            score_baselines(good, path)
        assert str(path) in str(caught.value)


def test_command(tmp_path: Path) -> None:
    train, test = write(tmp_path / "a", TRAIN), write(tmp_path / "b", TEST)
    output = tmp_path / "metrics" / "baselines.json"
    done = CliRunner().invoke(app, ["baselines", str(train), str(test), str(output)])
    assert done.exit_code == 0
    assert "majority: macro F1 0.333, accuracy 0.500" in done.stdout
    assert output.exists()

    failed = CliRunner().invoke(app, ["baselines", str(train), "nowhere", str(output)])
    assert failed.exit_code == 1
    assert failed.stderr.startswith("Error: nowhere: no such file")
