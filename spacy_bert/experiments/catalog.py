"""The experiments of the paper and others like them: data, recipe, scores, and the paper's figures.

Devlin et al. 2018, sections 4 and 5.3. The recipe is that of appendix A.3: batches of 32, three
epochs, a learning rate that rises for a tenth of the steps and falls to 0, dropout 0.1.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from spacy.language import Language

from spacy_bert.datasets.choices import write_choices
from spacy_bert.datasets.glue import write_glue
from spacy_bert.datasets.iob import Columns, write_iob
from spacy_bert.datasets.squad import write_squad
from spacy_bert.datasets.writing import BadRows, blank_pipeline
from spacy_bert.experiments.studies import FEATURES, PAPER_FEATURES, Features

# Official files -> `.spacy` files, a directory each; a FileNotFoundError says what is missing.
Write = Callable[[Path, Path], object]

LANG = "en"


@dataclass(frozen=True, kw_only=True)
class Score:
    """A figure that an experiment ends in.

    Attributes:
        split: The set that it is of.
        key: spaCy's name of it.
        paper: What BERT base has in the paper, in percent; None if it is not there.
    """

    split: str
    key: str
    paper: float | None = None


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """One data set, and what is done with it.

    Attributes:
        folder: Where its files are looked for, below the directory of all data.
        write: Makes `train.spacy` and the sets that are scored.
        component: The factory of the head.
        settings: Fields of the config by dotted name, beside the recipe's.
        batch_size: Examples in a batch.
        epochs: Passes over the training set.
        features: What a BiLSTM reads of the encoder, which then is not trained; None to train it.
        scores: Title of a figure to what it is.
        note: What a reader must know of the figures beside the paper's.
    """

    folder: str
    write: Write
    component: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    batch_size: int = 32
    epochs: int = 3
    features: Features | None = None
    scores: Mapping[str, Score]
    note: str = ""

    @property
    def splits(self) -> list[str]:
        """The sets that are scored, without repeats; training looks at the first."""
        return list(dict.fromkeys(score.split for score in self.scores.values()))


def _glue(task: str, source: Path, output: Path) -> None:
    write_glue(task, source, output, blank_pipeline(LANG), BadRows())


def _choices(task: str, source: Path, output: Path) -> None:
    write_choices(task, source, output, blank_pipeline(LANG), BadRows())


def _squad(names: Mapping[str, tuple[str, ...]], source: Path, output: Path) -> None:
    for split, choices in names.items():
        files = [source / f"{name}{end}" for name in choices for end in ("", ".gz")]
        file = next((file for file in files if file.is_file()), None)
        if file is None:
            raise FileNotFoundError(f"{source} has none of the files {', '.join(choices)}")
        write_squad(file, output / f"{split}.spacy", lang=LANG, rows=BadRows())


CONLL_FILES = {"train": "eng.train", "dev": "eng.testa", "test": "eng.testb"}


def _conll(documents: bool, source: Path, output: Path) -> None:
    nlp: Language = blank_pipeline(LANG)
    for split, name in CONLL_FILES.items():
        if not (source / name).is_file():
            raise FileNotFoundError(f"{source} has no file {name}")
        write_iob(
            source / name,
            output / f"{split}.spacy",
            nlp,
            BadRows(),
            columns=Columns(),
            scheme="iob1",
            documents=documents,
        )


WINDOW = "components.bert.model.window"
# Sentences and pairs of them are short; RTE's and QNLI's are not, and their premise slides.
_SHORT = {WINDOW: 128}
_LONG = {WINDOW: None, "components.bert.model.slide": "first"}
_GLUE_NOTE = "The paper's figures are of GLUE's test sets, ours of the development sets."


def _classes(
    task: str, folder: str, scores: Mapping[str, Score], settings: Mapping[str, Any] = _SHORT
) -> Experiment:
    return Experiment(
        folder=f"glue/{folder}",
        write=partial(_glue, task),
        component="bert_textcat",
        settings=settings,
        scores=scores,
        note=_GLUE_NOTE,
    )


def _accuracy(paper: float | None = None, split: str = "dev") -> Score:
    return Score(split=split, key="cats_acc", paper=paper)


def _positive_f1(label: str, paper: float) -> Score:
    return Score(split="dev", key=f"cats_f_per_type.{label}.f", paper=paper)


_SQUAD_SETTINGS = {WINDOW: 384, "components.bert.model.stride": 128}


_SQUAD_1 = {
    "train": ("train-v1.1.json", "squad11_train_subset.json"),
    "dev": ("dev-v1.1.json", "squad11_dev_subset_1062.json"),
}
_SQUAD_2 = {"train": ("train-v2.0.json",), "dev": ("dev-v2.0.json",)}


def _entities(
    *,
    documents: bool = False,
    batch_size: int = 32,
    dev: float | None = None,
    test: float | None = None,
    settings: Mapping[str, Any] | None = None,
    features: Features | None = None,
) -> Experiment:
    return Experiment(
        folder="conll2003",
        write=partial(_conll, documents),
        component="bert_ner",
        settings=settings or {},
        batch_size=batch_size,
        epochs=3 if features is None else _FEATURE_EPOCHS,
        features=features,
        scores={
            "dev F1": Score(split="dev", key="ents_f", paper=dev),
            "test F1": Score(split="test", key="ents_f", paper=test),
        },
        note="The paper reads sentences with the documents around them.",
    )


_FEATURE_EPOCHS = 10  # of a BiLSTM that starts from nothing
# Neighbours joined to texts of all lengths, in batches of about the pieces of 32 sentences.
_JOINED = {
    "corpora.train": {
        "@readers": "spacy_bert.JoinedCorpus.v1",
        "max_tokens": 400,
        "seed": "${training.seed}",
        "corpus": {
            "@readers": "spacy.Corpus.v1",
            "path": "${paths.train}",
            "gold_preproc": False,
        },
    },
    "training.batcher": {
        "@batchers": "spacy_bert.batch_by_pieces.v1",
        "size": 640,
        "tokenizer": "${paths.encoder}",
    },
}
# Title of a row of the paper's table 7 -> the experiment.
_FEATURES = {
    f"conll2003-{title.lower().replace(',', '').replace(' ', '-')}": _entities(
        features=chosen, dev=PAPER_FEATURES[title]["NER dev F1"]
    )
    for title, chosen in FEATURES.items()
}


def _choice(
    task: str, folder: str, split: str, paper: float | None = None, *, batch_size: int = 16
) -> Experiment:
    return Experiment(
        folder=folder,
        write=partial(_choices, task),
        component="bert_choice",
        settings=_SHORT,
        batch_size=batch_size,
        scores={"accuracy": Score(split=split, key="choice_acc", paper=paper)},
    )


EXPERIMENTS: dict[str, Experiment] = {
    "cola": _classes("cola", "CoLA", {"MCC": Score(split="dev", key="cats_mcc", paper=52.1)}),
    "sst2": _classes("sst2", "SST-2", {"accuracy": _accuracy(93.5)}),
    "mrpc": _classes(
        "mrpc",
        "MRPC",
        {"F1": _positive_f1("equivalent", 88.9), "accuracy": _accuracy()},
    ),
    "stsb": _classes(
        "stsb",
        "STS-B",
        {
            "Spearman": Score(split="dev", key="cats_spearman", paper=85.8),
            "Pearson": Score(split="dev", key="cats_pearson"),
        },
        {**_SHORT, "components.bert_textcat.mode": "regression"},
    ),
    "qqp": _classes("qqp", "QQP", {"F1": _positive_f1("duplicate", 71.2), "accuracy": _accuracy()}),
    "mnli": _classes(
        "mnli",
        "MNLI",
        {
            "matched accuracy": _accuracy(84.6, "dev_matched"),
            "mismatched accuracy": _accuracy(83.4, "dev_mismatched"),
        },
    ),
    "qnli": _classes("qnli", "QNLI", {"accuracy": _accuracy(90.5)}, _LONG),
    "rte": _classes("rte", "RTE", {"accuracy": _accuracy(66.4)}, _LONG),
    "wnli": _classes("wnli", "WNLI", {"accuracy": _accuracy()}),
    "sick-e": Experiment(
        folder="sick",
        write=partial(_glue, "sick-e"),
        component="bert_textcat",
        settings=_SHORT,
        scores={"accuracy": _accuracy(split="test")},
    ),
    "conll2003-documents": _entities(
        documents=True,
        batch_size=2,  # a document has 15 sentences
        dev=96.4,
        test=92.4,
    ),
    "conll2003-sentences": _entities(),
    "conll2003-joined": _entities(settings=_JOINED),
    **_FEATURES,
    "squad1": Experiment(
        folder="squad",
        write=partial(_squad, _SQUAD_1),
        component="bert_span_qa",
        settings=_SQUAD_SETTINGS,
        batch_size=16,
        epochs=2,
        scores={
            "EM": Score(split="dev", key="answers_em", paper=80.8),
            "F1": Score(split="dev", key="answers_f1", paper=88.5),
        },
    ),
    "squad2": Experiment(
        folder="squad",
        write=partial(_squad, _SQUAD_2),
        component="bert_span_qa",
        settings={**_SQUAD_SETTINGS, "components.bert_span_qa.null_answers": True},
        batch_size=16,
        epochs=2,
        scores={
            "EM": Score(split="dev", key="answers_em"),
            "F1": Score(split="dev", key="answers_f1"),
            "F1, best threshold": Score(split="dev", key="answers_best_f1"),
        },
        note="The paper has SQuAD 2.0 of BERT large alone: EM 78.7, F1 81.9.",
    ),
    "swag": _choice("swag", "swag", "dev", 81.6),
    "codah": _choice("codah", "codah", "dev"),
    "openbookqa": _choice("openbookqa", "openbookqa", "test"),
    "comve-a": _choice("comve-a", "comve", "test"),
    "comve-b": _choice("comve-b", "comve", "test"),
}

# What the workflows of project.yml run.
GROUPS = {
    "glue": ("cola", "sst2", "mrpc", "stsb", "qqp", "mnli", "qnli", "rte", "wnli"),
    "conll2003": ("conll2003-documents", "conll2003-sentences"),
    "squad": ("squad1", "squad2"),
    "swag": ("swag",),
    "features": (*_FEATURES, "conll2003-sentences"),
}


def find_experiments(names: Sequence[str]) -> dict[str, Experiment]:
    """Experiments by the names of them or of groups, in order, none twice.

    Raises:
        ValueError: If a name is unknown.
    """
    found: dict[str, Experiment] = {}
    for name in names:
        for member in GROUPS.get(name, (name,)):
            if member not in EXPERIMENTS:
                known = ", ".join(dict.fromkeys((*GROUPS, *EXPERIMENTS)))
                raise ValueError(f"unknown experiment {name!r}; known are {known}")
            found[member] = EXPERIMENTS[member]
    return found
