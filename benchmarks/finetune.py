"""Fine-tune on a public task with `spacy train` by the paper's recipe, and score the last model.

    python benchmarks/finetune.py TASK --data DIR --encoder DIR --seed 1 --output result.json

    mrpc       DIR has GLUE MRPC's train.tsv and dev.tsv; accuracy and F1 on dev
    sst2       GLUE SST-2, likewise; 20,000 shuffled training rows; accuracy and F1
    rte        GLUE RTE; accuracy
    cola       GLUE CoLA; Matthews' correlation and accuracy
    stsb       GLUE STS-B; Pearson's and Spearman's correlation
    conll2003  DIR has eng.train, eng.testa, eng.testb; entity F1 on testa and testb
    conll2003-joined  the same data, trained on neighbours joined to texts of all lengths
    squad      DIR has squad11_train_subset.json.gz and squad11_dev_subset_1062.json.gz, in SQuAD
               1.1's form; exact match and F1; batch 16, 2 epochs, windows of 384 pieces every 128
    codah      DIR has full_data.tsv; accuracy on the dev rows of `data choices`; batch 16
    swag       DIR has train.csv and val.csv; accuracy on val; batch 16

`--encoder` is a BERT checkpoint directory; `--random-start` takes its shape and vocabulary only.
Batch 32, 3 epochs, learning rate 5e-5, warm-up 10 %; no search for the best checkpoint. Prints one
JSON line for each seed.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import spacy
from spacy.cli.train import train
from spacy.language import Language
from spacy.tokens import Doc, DocBin
from spacy.training import Corpus
from spacy.training.converters import conll_ner_to_docs

from spacy_bert.datasets import choices
from spacy_bert.datasets.glue import TASKS as GLUE
from spacy_bert.datasets.glue import read_split
from spacy_bert.datasets.splits import find_files
from spacy_bert.datasets.squad import read_squad
from spacy_bert.datasets.writing import BadRows

RATE, WARMUP = 5e-5, 0.1
SST2_ROWS = 20_000

Docs = Iterable[Doc]


@dataclass(frozen=True)
class Task:
    """A task: the splits of its data as Docs, how it is trained, and how a pipeline is scored."""

    config: str
    read: Callable[[Path], dict[str, Docs]]
    score: Callable[[Language, Path], dict[str, float]]
    overrides: dict[str, Any] = field(default_factory=dict)
    batch: int = 32
    epochs: int = 3


def read_glue(name: str, data: Path) -> dict[str, Docs]:
    """The training and the development set of a task of GLUE."""
    nlp, task = spacy.blank("en"), GLUE[name]
    files = find_files(task, data)
    return {
        split: read_split(nlp, task, split, files[split], BadRows()) for split in ("train", "dev")
    }


def read_sst2(data: Path) -> dict[str, Docs]:
    """The first rows of the training set, shuffled, and the whole development set."""
    splits = read_glue("sst2", data)
    rows = list(splits["train"])
    random.Random(0).shuffle(rows)
    return {**splits, "train": rows[:SST2_ROWS]}


def read_conll2003(data: Path) -> dict[str, Docs]:
    """One Doc for each sentence; spaCy's converter makes BILUO of IOB1."""
    files = {"train": "eng.train", "dev": "eng.testa", "test": "eng.testb"}
    return {split: list(sentences(data / file)) for split, file in files.items()}


def sentences(file: Path) -> Iterator[Doc]:
    """The sentences of a CoNLL file, one Doc each."""
    text = file.read_text(encoding="utf8")
    # The marks of documents are no sentences; the columns between word and entity are not read.
    lines = ("" if line.startswith("-DOCSTART-") else line for line in text.splitlines())
    blocks = "\n".join(lines).split("\n\n")
    columns = "\n\n".join(block.strip() for block in blocks if block.strip())
    for doc in conll_ner_to_docs(columns, n_sents=1, no_print=True):
        for sentence in doc.sents:
            yield sentence.as_doc()


def read_qa(data: Path) -> dict[str, Docs]:
    """Questions joined to their contexts."""
    nlp = spacy.blank("en")
    files = {"train": "squad11_train_subset.json.gz", "dev": "squad11_dev_subset_1062.json.gz"}
    return {split: read_squad(data / file, nlp, BadRows()) for split, file in files.items()}


def read_choices(name: str, data: Path) -> dict[str, Docs]:
    """Contexts joined to their choices."""
    nlp, task = spacy.blank("en"), choices.TASKS[name]
    files = find_files(task, data)
    return {
        split: choices.read_split(nlp, task, split, files[split], BadRows())
        for split in ("train", "dev")
    }


def score_dev(nlp: Language, folder: Path) -> dict[str, Any]:
    """All scores of spaCy and ours on dev."""
    return nlp.evaluate(list(Corpus(folder / "dev.spacy")(nlp)))


def score_positive(label: str, nlp: Language, folder: Path) -> dict[str, float]:
    """Accuracy, and F1 of the positive class, on dev."""
    scores = score_dev(nlp, folder)
    return {"acc": scores["cats_acc"], "f1": scores["cats_f_per_type"][label]["f"]}


def score_keys(keys: dict[str, str], nlp: Language, folder: Path) -> dict[str, float]:
    """Some scores on dev, by the names that the result has for them."""
    scores = score_dev(nlp, folder)
    return {name: scores[key] for name, key in keys.items()}


def score_ents(nlp: Language, folder: Path) -> dict[str, float]:
    """Entity F1 on the tokens of the data set."""
    scores = {}
    for split in ("dev", "test"):
        examples = list(Corpus(folder / f"{split}.spacy", gold_preproc=True)(nlp))
        scores[f"{split}_f1"] = nlp.evaluate(examples)["ents_f"]
    return scores


TEXTCAT = "finetune_textcat.cfg"
TASKS = {
    "mrpc": Task(TEXTCAT, partial(read_glue, "mrpc"), partial(score_positive, "equivalent")),
    "sst2": Task(TEXTCAT, read_sst2, partial(score_positive, "positive")),
    "rte": Task(
        TEXTCAT,
        partial(read_glue, "rte"),
        partial(score_keys, {"acc": "cats_acc"}),
        # Premises have up to 280 pieces.
        {"components.bert.model.window": None, "components.bert.model.slide": "first"},
    ),
    "cola": Task(
        TEXTCAT,
        partial(read_glue, "cola"),
        partial(score_keys, {"mcc": "cats_mcc", "acc": "cats_acc"}),
    ),
    "stsb": Task(
        TEXTCAT,
        partial(read_glue, "stsb"),
        partial(score_keys, {"pearson": "cats_pearson", "spearman": "cats_spearman"}),
        {"components.bert_textcat.mode": "regression"},
    ),
    "conll2003": Task("finetune_ner.cfg", read_conll2003, score_ents),
    "conll2003-joined": Task("finetune_ner_joined.cfg", read_conll2003, score_ents),
    "squad": Task(
        "finetune_qa.cfg",
        read_qa,
        partial(score_keys, {"em": "answers_em", "f1": "answers_f1"}),
        batch=16,
        epochs=2,
    ),
    **{
        name: Task(
            "finetune_choice.cfg",
            partial(read_choices, name),
            partial(score_keys, {"acc": "choice_acc"}),
            batch=16,
        )
        for name in ("codah", "swag")
    },
}


def run(
    name: str, task: Task, data: Path, seed: int, folder: Path, overrides: dict[str, Any]
) -> dict[str, Any]:
    """Train and score one seed; the model stays in `folder`."""
    sizes = {}
    for split, docs in task.read(data).items():
        docbin = DocBin(docs=docs, store_user_data=False)
        docbin.to_disk(folder / f"{split}.spacy")
        sizes[split] = len(docbin)
    steps = task.epochs * -(-sizes["train"] // task.batch)
    started = time.perf_counter()
    train(
        Path(__file__).parent / task.config,
        folder / "model",
        overrides={
            **task.overrides,
            **overrides,
            "paths.train": str(folder / "train.spacy"),
            "paths.dev": str(folder / "dev.spacy"),
            "training.seed": seed,
            "training.eval_frequency": max(steps // task.epochs, 1),
            "training.optimizer.learn_rate.warmup_steps": int(WARMUP * steps),
            "training.optimizer.learn_rate.total_steps": steps,
        },
    )
    seconds = time.perf_counter() - started
    scores = task.score(spacy.load(folder / "model" / "model-last"), folder)
    return {"task": name, "seed": seed, **scores, "train_s": round(seconds, 1), "docs": sizes}


def main() -> None:
    """Read the command line and print one JSON line a seed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("task", choices=TASKS)
    parser.add_argument("--data", type=Path, required=True, help="folder with the task's files")
    parser.add_argument("--encoder", type=Path, required=True, help="BERT checkpoint directory")
    parser.add_argument("--seed", type=int, nargs="+", default=[1])
    parser.add_argument("--learning-rate", type=float, default=RATE)
    parser.add_argument("--random-start", action="store_true", help="from random weights")
    parser.add_argument("--keep", type=Path, help="keep data and models in this folder")
    parser.add_argument("--output", type=Path, help="also write the results to this JSON file")
    args = parser.parse_args()
    overrides = {
        "paths.encoder": str(args.encoder),
        "components.bert.model.pretrained": not args.random_start,
        "training.optimizer.learn_rate.initial_rate": args.learning_rate,
    }
    results = []
    for seed in args.seed:
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary) if args.keep is None else args.keep / f"{args.task}-{seed}"
            folder.mkdir(parents=True, exist_ok=True)
            results.append(run(args.task, TASKS[args.task], args.data, seed, folder, overrides))
        sys.stdout.write(json.dumps(results[-1]) + "\n")
        sys.stdout.flush()
    if args.output is not None:
        args.output.write_text(json.dumps(results, indent=2) + "\n", encoding="utf8")


if __name__ == "__main__":
    main()
