"""The arms of the studies, and the paper's figures."""

from __future__ import annotations

from pathlib import Path

import pytest

from spacy_bert.experiments.studies import (
    FEATURES,
    NER_FEATURES,
    PAPER_FEATURES,
    PAPER_MASKS,
    PAPER_SIZES,
    PAPER_TASKS,
    PARTS,
    SIZES,
    STUDIES,
    find_study,
)
from spacy_bert.pretraining.config import PretrainConfig

CONFIG = Path(__file__).parents[2] / "configs" / "pretrain_tiny.cfg"

# Devlin et al. 2018, tables 5 to 8.
TABLES = [
    (
        PAPER_TASKS,
        """
        task | MNLI-m | QNLI | MRPC | SST-2 | SQuAD F1
        base | 84.4 | 88.4 | 86.7 | 92.7 | 88.5
        no NSP | 83.9 | 84.9 | 86.5 | 92.6 | 87.9
        LTR & no NSP | 82.1 | 84.3 | 77.5 | 92.1 | 77.8
        LTR & no NSP + BiLSTM | 82.1 | 84.1 | 75.7 | 91.6 | 84.9
        """,
    ),
    (
        PAPER_SIZES,
        """
        size | MLM perplexity | MNLI-m | MRPC | SST-2
        3-768-12 | 5.84 | 77.9 | 79.8 | 88.4
        6-768-3 | 5.24 | 80.6 | 82.2 | 90.7
        6-768-12 | 4.68 | 81.9 | 84.8 | 91.3
        12-768-12 | 3.99 | 84.4 | 86.7 | 92.9
        12-1024-16 | 3.54 | 85.7 | 86.9 | 93.3
        24-1024-16 | 3.23 | 86.6 | 87.8 | 93.7
        """,
    ),
    (
        PAPER_MASKS,
        """
        mask/same/random | MNLI | NER fine-tuned | NER features
        80/10/10 | 84.2 | 95.4 | 94.9
        100/0/0 | 84.3 | 94.9 | 94.0
        80/0/20 | 84.1 | 95.2 | 94.6
        80/20/0 | 84.4 | 95.2 | 94.7
        0/20/80 | 83.7 | 94.8 | 94.6
        0/0/100 | 83.6 | 94.9 | 94.6
        """,
    ),
    (
        PAPER_FEATURES,
        """
        system | NER dev F1
        Fine-tune all | 96.4
        Embeddings | 91.0
        Second-to-last hidden | 95.6
        Last hidden | 94.9
        Weighted sum, last four | 95.9
        Concat, last four | 96.1
        Weighted sum, all | 95.5
        """,
    ),
]


@pytest.mark.parametrize(("figures", "text"), TABLES)
def test_figures_are_those_of_the_paper(figures: dict, text: str) -> None:
    head, *lines = [line.split(" | ") for line in map(str.strip, text.strip().splitlines())]
    expected = {name: dict(zip(head[1:], map(float, row), strict=True)) for name, *row in lines}
    assert {name: dict(row) for name, row in figures.items()} == expected


@pytest.mark.parametrize("name", STUDIES)
def test_arms_are_valid(name: str) -> None:
    study = find_study(name)
    names = [arm.name for arm in study.arms]
    assert len(set(names)) == len(names)
    runs: dict[str, object] = {}
    for arm in study.arms:
        assert runs.setdefault(arm.run.name, arm.run) == arm.run
        config = PretrainConfig.load(CONFIG, arm.run.overrides)
        # The first piece of a left-to-right encoder sees nothing: it must not be read.
        assert not (config.model.is_decoder and arm.reading == "config")
        assert 0 <= arm.parts <= PARTS
    assert sum(arm.parts == 0 for arm in study.arms) == 1


def test_arms_change_what_they_are_named_after() -> None:
    configs = {
        name: {
            arm.name: PretrainConfig.load(CONFIG, arm.run.overrides)
            for arm in find_study(name).arms
        }
        for name in STUDIES
    }
    tasks = {name: config.training.objective for name, config in configs["tasks"].items()}
    assert tasks == {
        "base": "mlm+nsp",
        "no-nsp": "mlm",
        "ltr": "ltr",
        "ltr-bilstm": "ltr",
        "random": "mlm+nsp",
    }
    for size in SIZES:
        model = configs["model-size"][f"size-{size}"].model
        found = (model.num_hidden_layers, model.hidden_size, model.num_attention_heads)
        assert "-".join(map(str, found)) == size
        assert model.intermediate_size == 4 * model.hidden_size
    for title in PAPER_MASKS:
        masking = configs["mask-mix"]["mask-" + title.replace("/", "-")].masking
        same = abs(1.0 - masking.mask - masking.random)
        shares = (masking.mask, same, masking.random)
        assert "/".join(f"{100 * share:.0f}" for share in shares) == title
    assert NER_FEATURES in find_study("mask-mix").measures
    read = {arm.title: arm.features for arm in find_study("features").arms if arm.features}
    assert read == FEATURES
    assert {arm.title for arm in find_study("features").arms} > set(PAPER_FEATURES)


def test_sizes_and_arms_can_be_chosen() -> None:
    study = find_study("model-size", sizes=["6-768-12", "12-768-12"], arms=["size-6-768-12"])
    assert [arm.title for arm in study.arms] == ["6-768-12"]
    assert study.arms[0].title in study.paper


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("task", {}, "no study 'task': choose one of tasks, model-size"),
        ("tasks", {"sizes": ["1-8-1"]}, "sizes are for the study model-size, not for tasks"),
        ("tasks", {"arms": ["nsp"]}, "tasks has no arm 'nsp': choose from base, no-nsp"),
        ("model-size", {"sizes": ["2x128"]}, "'2x128' is no size; write layers-hidden-heads"),
        ("model-size", {"sizes": ["1-8-1", "1-8-1"]}, "given twice"),
    ],
)
def test_mistakes(name: str, options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        find_study(name, **options)
