"""The ablation studies of Devlin et al. 2018, as data: their arms, and the paper's figures.

An arm is one row of a table: a way to pre-train and a way to fine-tune. Arms share a pre-training
run where they differ in fine-tuning alone.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

# How a head reads the encoder: as the fine-tuning config says; the last piece of a window in the
# place of [CLS], which a left-to-right encoder needs; or a fresh BiLSTM over the tokens.
Reading = Literal["config", "last", "bilstm"]

PARTS = 8  # in which the study of steps cuts its pre-training
SIZES = ("1-128-2", "2-128-1", "2-128-2", "3-128-2", "2-192-3")
Figures = Mapping[str, float]


@dataclass(frozen=True, kw_only=True)
class Run:
    """A pre-training run.

    Attributes:
        name: Its directory.
        overrides: Fields of the pre-training config by dotted name.
        is_cut: Whether its checkpoints are kept, `PARTS` of them at equal distances.
    """

    name: str
    overrides: Mapping[str, object]
    is_cut: bool = False


@dataclass(frozen=True, kw_only=True)
class Features:
    """Layers of an encoder that stays as it is, under a BiLSTM that is trained (section 5.3).

    Attributes:
        layers: As `spacy_bert.LayerFeatures.v1` takes them: 0 is the embeddings, -1 the last layer;
            None for all layers. Of the last ones, a network gives as many as it has.
        combine: "concat" or "weighted".
    """

    layers: tuple[int, ...] | None
    combine: Literal["concat", "weighted"] = "concat"

    def of(self, layers: int) -> list[int] | None:
        """Those of them that a network of so many layers has; below the lowest are embeddings."""
        if self.layers is None:
            return None
        return [layer for layer in self.layers if layer >= -layers] or [0]


@dataclass(frozen=True, kw_only=True)
class Arm:
    """A row of a study.

    Attributes:
        name: Stem of its files.
        title: Its name in tables; the paper's, if the paper has the row.
        run: The pre-training run that it starts from.
        parts: After how many of the run's `PARTS`; 0: only shape and vocabulary are taken.
        reading: How the heads read the encoder.
        features: Instead, what a BiLSTM reads of an encoder that is not trained.
    """

    name: str
    title: str
    run: Run
    parts: int = PARTS
    reading: Reading = "config"
    features: Features | None = None


@dataclass(frozen=True, kw_only=True)
class Measure:
    """A task on which arms are compared.

    Attributes:
        name: Its directory.
        title: Its column in tables.
        task: Key of `summary.TASKS` and folder of the data.
        is_feature_based: Whether the encoder stays as it is, under a BiLSTM that is trained
            (Devlin et al. 2018, section 5.3).
    """

    name: str
    title: str
    task: str
    is_feature_based: bool = False


@dataclass(frozen=True, kw_only=True)
class Study:
    """A table of the paper, and our arms for it.

    Attributes:
        title: Heading of tables and report.
        source: Where the paper has its figures.
        arms: Our rows.
        measures: Our columns.
        paper: Title of the row to column to figure, in percent but for perplexity.
        note: What to keep in mind, or what the paper says without a table.
    """

    title: str
    source: str
    arms: tuple[Arm, ...]
    measures: tuple[Measure, ...]
    paper: Mapping[str, Figures]
    note: str = ""


TEXTCAT = Measure(name="textcat", title="textcat macro F1", task="textcat")
NER = Measure(name="ner", title="NER F1", task="ner")
NER_FEATURES = Measure(
    name="ner-features", title="NER F1, features", task="ner", is_feature_based=True
)


def _table(columns: Sequence[str], rows: Mapping[str, Sequence[float]]) -> Mapping[str, Figures]:
    return {title: dict(zip(columns, row, strict=True)) for title, row in rows.items()}


PAPER_TASKS = _table(
    ("MNLI-m", "QNLI", "MRPC", "SST-2", "SQuAD F1"),
    {
        "base": (84.4, 88.4, 86.7, 92.7, 88.5),
        "no NSP": (83.9, 84.9, 86.5, 92.6, 87.9),
        "LTR & no NSP": (82.1, 84.3, 77.5, 92.1, 77.8),
        "LTR & no NSP + BiLSTM": (82.1, 84.1, 75.7, 91.6, 84.9),
    },
)
PAPER_SIZES = _table(
    ("MLM perplexity", "MNLI-m", "MRPC", "SST-2"),
    {
        "3-768-12": (5.84, 77.9, 79.8, 88.4),
        "6-768-3": (5.24, 80.6, 82.2, 90.7),
        "6-768-12": (4.68, 81.9, 84.8, 91.3),
        "12-768-12": (3.99, 84.4, 86.7, 92.9),
        "12-1024-16": (3.54, 85.7, 86.9, 93.3),
        "24-1024-16": (3.23, 86.6, 87.8, 93.7),
    },
)
PAPER_MASKS = _table(
    ("MNLI", "NER fine-tuned", "NER features"),
    {
        "80/10/10": (84.2, 95.4, 94.9),
        "100/0/0": (84.3, 94.9, 94.0),
        "80/0/20": (84.1, 95.2, 94.6),
        "80/20/0": (84.4, 95.2, 94.7),
        "0/20/80": (83.7, 94.8, 94.6),
        "0/0/100": (83.6, 94.9, 94.6),
    },
)
FINE_TUNED = "Fine-tune all"
FEATURES = {
    "Embeddings": Features(layers=(0,)),
    "Second-to-last hidden": Features(layers=(-2,)),
    "Last hidden": Features(layers=(-1,)),
    "Weighted sum, last four": Features(layers=(-4, -3, -2, -1), combine="weighted"),
    "Concat, last four": Features(layers=(-4, -3, -2, -1)),
    "Weighted sum, all": Features(layers=None, combine="weighted"),
}
PAPER_FEATURES = _table(
    ("NER dev F1",),
    {
        FINE_TUNED: (96.4,),
        "Embeddings": (91.0,),
        "Second-to-last hidden": (95.6,),
        "Last hidden": (94.9,),
        "Weighted sum, last four": (95.9,),
        "Concat, last four": (96.1,),
        "Weighted sum, all": (95.5,),
    },
)


def tasks() -> Study:
    """What next sentence prediction and reading in both directions bring (section 5.1)."""
    base, mlm, ltr = (_objective(name) for name in ("mlm+nsp", "mlm", "ltr"))
    return Study(
        title="Ablation of the pre-training tasks",
        source="Devlin et al. 2018, table 5",
        arms=(
            Arm(name="base", title="base", run=base),
            Arm(name="no-nsp", title="no NSP", run=mlm),
            Arm(name="ltr", title="LTR & no NSP", run=ltr, reading="last"),
            Arm(name="ltr-bilstm", title="LTR & no NSP + BiLSTM", run=ltr, reading="bilstm"),
            _random(base),
        ),
        measures=(TEXTCAT, NER),
        paper=PAPER_TASKS,
        note="The dev loss of LTR is that of every following piece, not of masked ones: it cannot "
        "be compared. Classes are read from [CLS], under LTR from the last [SEP], with the BiLSTM "
        "from the mean of its tokens.",
    )


def model_size(sizes: Sequence[str] = SIZES) -> Study:
    """What layers, width and heads bring (section 5.2).

    Args:
        sizes: Shapes as the paper writes them: layers-hidden size-heads.

    Raises:
        ValueError: If a shape is written otherwise, or given twice.
    """
    if len(set(sizes)) < len(sizes):
        raise ValueError(f"a size is given twice: {', '.join(sizes)}")
    runs = [_size(size) for size in sizes]
    arms = [Arm(name=run.name, title=size, run=run) for size, run in zip(sizes, runs, strict=True)]
    return Study(
        title="Effect of the model's size",
        source="Devlin et al. 2018, table 6",
        arms=(*arms, _random(runs[len(runs) // 2])),
        measures=(TEXTCAT, NER),
        paper=PAPER_SIZES,
        note="Shapes are layers-hidden size-heads; the feed-forward size is 4 x hidden size.",
    )


def steps() -> Study:
    """How much pre-training is needed, masked against left-to-right (appendix C.1)."""
    arms = []
    for name, title in (("mlm", "MLM"), ("ltr", "LTR")):
        run = Run(name=name, overrides={"training.objective": name}, is_cut=True)
        reading: Reading = "last" if name == "ltr" else "config"
        for parts in (1, 2, 4, 8):
            arms.append(
                Arm(name=f"{name}-{parts}", title=title, run=run, parts=parts, reading=reading)
            )
    return Study(
        title="Effect of the number of pre-training steps",
        source="Devlin et al. 2018, appendix C.1, figure 5",
        arms=(_random(arms[0].run), *arms),
        measures=(TEXTCAT, NER),
        paper={},
        note="The paper: 1 M against 500 k steps gives about +1.0 on MNLI; MLM overtakes LTR early "
        "though it converges more slowly. Checkpoints before the last one still had a high "
        "learning rate. The dev loss of LTR is that of every following piece, not of masked ones.",
    )


def mask_mix() -> Study:
    """What stands in the place of predicted pieces: [MASK], themselves, others (appendix C.2)."""
    arms = []
    for title in PAPER_MASKS:
        mask, _, random = (int(share) / 100 for share in title.split("/"))
        overrides = {"masking.mask": mask, "masking.random": random}
        name = "mask-" + title.replace("/", "-")
        arms.append(Arm(name=name, title=title, run=Run(name=name, overrides=overrides)))
    return Study(
        title="Effect of the masking procedure",
        source="Devlin et al. 2018, table 8",
        arms=(*arms, _random(arms[0].run)),
        measures=(TEXTCAT, NER, NER_FEATURES),
        paper=PAPER_MASKS,
        note="Rows are [MASK]/same/random in percent. Each dev loss is under the arm's own masks: "
        "they cannot be compared. Features: the encoder stays as it is under a BiLSTM.",
    )


def features() -> Study:
    """Features of a frozen encoder's layers instead of fine-tuning (section 5.3)."""
    base = _objective("mlm+nsp")
    arms = [Arm(name="fine-tune", title=FINE_TUNED, run=base)]
    for title, chosen in FEATURES.items():
        name = title.lower().replace(",", "").replace(" ", "-")
        arms.append(Arm(name=name, title=title, run=base, features=chosen))
    return Study(
        title="Features instead of fine-tuning",
        source="Devlin et al. 2018, table 7",
        arms=(*arms, _random(base)),
        measures=(NER,),
        paper=PAPER_FEATURES,
        note="A network of less than four layers gives all it has where the last four are asked "
        "for. Features go into a BiLSTM, whose learning rate is 1e-3 whatever the config says.",
    )


STUDIES = {
    "tasks": tasks,
    "model-size": model_size,
    "steps": steps,
    "mask-mix": mask_mix,
    "features": features,
}


def find_study(name: str, *, sizes: Sequence[str] = (), arms: Sequence[str] = ()) -> Study:
    """A study by name.

    Args:
        name: A key of `STUDIES`.
        sizes: Shapes instead of the default ones, for "model-size".
        arms: Names of the arms to keep; all by default.

    Raises:
        ValueError: If there is no such study or arm, or sizes are given for another one.
    """
    if name not in STUDIES:
        raise ValueError(f"there is no study {name!r}: choose one of {', '.join(STUDIES)}")
    if sizes and name != "model-size":
        raise ValueError(f"sizes are for the study model-size, not for {name}")
    study = model_size(sizes) if sizes else STUDIES[name]()
    known = [arm.name for arm in study.arms]
    for arm in arms:
        if arm not in known:
            raise ValueError(f"{name} has no arm {arm!r}: choose from {', '.join(known)}")
    kept = tuple(arm for arm in study.arms if not arms or arm.name in arms)
    return Study(**{**vars(study), "arms": kept})


def _objective(name: str) -> Run:
    return Run(name=name.replace("+", "-"), overrides={"training.objective": name})


def _size(size: str) -> Run:
    if not re.fullmatch(r"[1-9]\d*-[1-9]\d*-[1-9]\d*", size):
        raise ValueError(f"{size!r} is no size; write layers-hidden-heads, such as 12-768-12")
    layers, hidden, heads = map(int, size.split("-"))
    overrides = {
        "model.num_hidden_layers": layers,
        "model.hidden_size": hidden,
        "model.num_attention_heads": heads,
        "model.intermediate_size": 4 * hidden,
    }
    return Run(name=f"size-{size}", overrides=overrides)


def _random(run: Run) -> Arm:
    return Arm(name="random", title="no pre-training", run=run, parts=0)
