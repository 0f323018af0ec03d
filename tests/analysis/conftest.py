from __future__ import annotations

from pathlib import Path

import pytest
import srsly

LABELS = ("A", "B")


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
