from __future__ import annotations

from pathlib import Path

import pytest
import srsly
from typer.testing import CliRunner

from spacy_bert.cli.app import app
from spacy_bert.experiments.plots import moving_mean
from spacy_bert.experiments.summary import (
    TASKS,
    build_report,
    pretraining_table,
    read_pretraining,
    read_task,
    results_table,
)


def test_results_table(results: Path) -> None:
    rows = results_table(TASKS["textcat"], read_task(results / "metrics" / "textcat"))
    assert [row["system"] for row in rows] == [
        "BERT, pre-trained start",
        "BERT, random start",
        "majority",
    ]
    assert [row["seeds"] for row in rows] == [3, 3, None]
    assert [row["macro F1"] for row in rows] == pytest.approx([0.5, 0.3, 0.1])
    assert rows[0]["macro F1 ±"] == pytest.approx(0.1)
    assert rows[2]["macro F1 ±"] is None


def test_pretraining_table(results: Path) -> None:
    rows = pretraining_table(read_pretraining(results / "pretrained"))
    assert [row["value"] for row in rows] == pytest.approx([6.1, 6.4, 0.6, 0.5, 0.7])


def test_pretraining_without_next_sentences(results: Path) -> None:
    path = results / "pretrained" / "metrics.json"
    metrics = srsly.read_json(path)
    metrics.update(nsp_accuracy=None, nsp_baselines={})
    srsly.write_json(path, metrics)
    found = read_pretraining(results / "pretrained")
    assert len(pretraining_table(found)) == 2
    assert "Next sentence" not in build_report(found, {}).to_html()


def test_results_table_of_names(results: Path) -> None:
    rows = results_table(TASKS["ner"], read_task(results / "metrics" / "ner"))
    assert list(rows[0])[2::2] == ["F1", "precision", "recall"]
    assert [row["F1"] for row in rows] == pytest.approx([0.61, 0.41, 0.21])
    assert [row["recall"] for row in rows] == pytest.approx([0.51, 0.31, 0.11])


def test_report_shows_every_number_once_measured(results: Path) -> None:
    tasks = {name: read_task(results / "metrics" / name) for name in TASKS}
    html = build_report(read_pretraining(results / "pretrained"), tasks).to_html()
    for shown in ("6.10", "60.0%", "50.0%", "30.0%", "0.500", "4,321 pieces", "word overlap"):
        assert shown in html
    for shown in ("61.0%", "41.0%", "0.610", *(task.title for task in TASKS.values())):
        assert shown in html


def test_command(results: Path) -> None:
    arguments = ["report", str(results / "report"), "--pretrained", str(results / "pretrained")]
    done = CliRunner().invoke(app, [*arguments, "--metrics", str(results / "metrics")])
    assert done.exit_code == 0, done.output
    assert "BERT, pre-trained start" in done.stdout
    written = {path.name for path in (results / "report").iterdir()}
    assert written >= {"index.html", "report.json", "loss.png"}
    assert written >= {f"{name}-seeds.png" for name in TASKS}
    assert written >= {f"{name}-labels.png" for name, task in TASKS.items() if task.by_label}
    assert all(task.title in done.stdout for task in TASKS.values())


@pytest.mark.parametrize(
    ("path", "content", "message"),
    [
        ("pretrained/metrics.json", "{}", "no number 'dev_mlm_loss'"),
        ("pretrained/metrics.json", "{", "not valid JSON"),
        ("pretrained/log.jsonl", None, "no such file"),
        ("metrics/textcat/pretrained-1.json", "{}", "no score 'cats_macro_f'"),
        ("metrics/ner/random-0.json", "{}", "no score 'ents_f'"),
    ],
)
def test_errors_name_the_file(results: Path, path: str, content: str | None, message: str) -> None:
    if content is None:
        (results / path).unlink()
    else:
        (results / path).write_text(content)
    arguments = ["report", str(results / "report"), "--pretrained", str(results / "pretrained")]
    failed = CliRunner().invoke(app, [*arguments, "--metrics", str(results / "metrics")])
    assert failed.exit_code == 1
    assert message in failed.stderr
    assert path.rpartition("/")[0] in failed.stderr


def test_no_results(tmp_path: Path) -> None:
    assert CliRunner().invoke(app, ["report", str(tmp_path)]).exit_code == 1
    with pytest.raises(FileNotFoundError, match="no scores named"):
        read_task(tmp_path)


def test_moving_mean() -> None:
    assert moving_mean([4.0, 2.0, 0.0, 2.0], 2) == [4.0, 3.0, 1.0, 1.0]
    assert moving_mean([], 3) == []
