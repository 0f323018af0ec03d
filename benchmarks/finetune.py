"""Fine-tune on a public task with `spacy train` by the paper's recipe, and score the last model.

    python benchmarks/finetune.py TASK --data DIR --encoder DIR --seed 1 --output result.json

    mrpc       DIR has GLUE MRPC's train.tsv and dev.tsv; accuracy and F1 on dev
    sst2       DIR has GLUE SST-2's train.tsv and dev.tsv; 20,000 shuffled training rows; accuracy
    conll2003  DIR has eng.train, eng.testa, eng.testb; entity F1 on testa and testb
    conll2003-joined  the same data, trained on neighbours joined to texts of all lengths

`--encoder` is a BERT checkpoint directory. Batch 32, 3 epochs, learning rate 5e-5, warm-up 10 %, no
search for the best checkpoint. Prints one JSON line for each seed.
"""

from __future__ import annotations

import argparse
import csv
import json
import random
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import spacy
from spacy.cli.train import train
from spacy.language import Language
from spacy.tokens import Doc, DocBin
from spacy.training import Corpus
from spacy.training.converters import conll_ner_to_docs

import spacy_bert

BATCH, EPOCHS, WARMUP = 32, 3, 0.1
SST2_ROWS = 20_000

Docs = Iterable[Doc]


@dataclass(frozen=True)
class Task:
    """A task: the splits of its data as Docs, and how a trained pipeline is scored."""

    config: str
    read: Callable[[Path], dict[str, Docs]]
    score: Callable[[Language, Path], dict[str, float]]


def read_tsv(file: Path) -> Iterator[dict[str, str]]:
    """Rows of a GLUE file, whose quotes mean nothing."""
    with file.open(encoding="utf8", newline="") as lines:
        yield from csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE)


def read_mrpc(data: Path) -> dict[str, Docs]:
    """Each pair is a Doc of two segments."""
    nlp = spacy.blank("en")

    def pairs(split: str) -> Iterator[Doc]:
        for row in read_tsv(data / f"{split}.tsv"):
            doc = spacy_bert.join(nlp, row["#1 String"], row["#2 String"])
            same = row["Quality"] == "1"
            doc.cats = {"positive": float(same), "negative": float(not same)}
            yield doc

    return {"train": pairs("train"), "dev": pairs("dev")}


def read_sst2(data: Path) -> dict[str, Docs]:
    """The first rows of the training set, shuffled, and the whole development set."""
    nlp = spacy.blank("en")

    def sentences(rows: Iterable[dict[str, str]]) -> Iterator[Doc]:
        for row in rows:
            doc = nlp.make_doc(row["sentence"])
            positive = row["label"] == "1"
            doc.cats = {"positive": float(positive), "negative": float(not positive)}
            yield doc

    rows = list(read_tsv(data / "train.tsv"))
    random.Random(0).shuffle(rows)
    return {"train": sentences(rows[:SST2_ROWS]), "dev": sentences(read_tsv(data / "dev.tsv"))}


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


def score_cats(nlp: Language, folder: Path) -> dict[str, float]:
    """Accuracy, and F1 of the positive class, on dev."""
    golds = list(DocBin().from_disk(folder / "dev.spacy").get_docs(nlp.vocab))
    texts = (gold.text for gold in golds)
    pairs = [
        (gold.cats["positive"] > 0.5, doc.cats["positive"] > 0.5)
        for gold, doc in zip(golds, nlp.pipe(texts), strict=True)
    ]
    hits = sum(gold and guess for gold, guess in pairs)
    return {
        "acc": sum(gold == guess for gold, guess in pairs) / len(pairs),
        "f1": 2 * hits / sum(gold + guess for gold, guess in pairs),
    }


def score_ents(nlp: Language, folder: Path) -> dict[str, float]:
    """Entity F1 on the tokens of the data set."""
    scores = {}
    for split in ("dev", "test"):
        examples = list(Corpus(folder / f"{split}.spacy", gold_preproc=True)(nlp))
        scores[f"{split}_f1"] = nlp.evaluate(examples)["ents_f"]
    return scores


TASKS = {
    "mrpc": Task("finetune_textcat.cfg", read_mrpc, score_cats),
    "sst2": Task("finetune_textcat.cfg", read_sst2, score_cats),
    "conll2003": Task("finetune_ner.cfg", read_conll2003, score_ents),
    "conll2003-joined": Task("finetune_ner_joined.cfg", read_conll2003, score_ents),
}


def run(name: str, data: Path, encoder: Path, seed: int, folder: Path) -> dict[str, object]:
    """Train and score one seed; the model stays in `folder`."""
    task = TASKS[name]
    sizes = {}
    for split, docs in task.read(data).items():
        docbin = DocBin(docs=docs, store_user_data=False)
        docbin.to_disk(folder / f"{split}.spacy")
        sizes[split] = len(docbin)
    steps = EPOCHS * -(-sizes["train"] // BATCH)
    started = time.perf_counter()
    train(
        Path(__file__).with_name(task.config),
        folder / "model",
        overrides={
            "paths.encoder": str(encoder),
            "paths.train": str(folder / "train.spacy"),
            "paths.dev": str(folder / "dev.spacy"),
            "training.seed": seed,
            "training.eval_frequency": max(steps // EPOCHS, 1),
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
    parser.add_argument("--keep", type=Path, help="keep data and models in this folder")
    parser.add_argument("--output", type=Path, help="also write the results to this JSON file")
    args = parser.parse_args()
    results = []
    for seed in args.seed:
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary) if args.keep is None else args.keep / f"{args.task}-{seed}"
            folder.mkdir(parents=True, exist_ok=True)
            results.append(run(args.task, args.data, args.encoder, seed, folder))
        sys.stdout.write(json.dumps(results[-1]) + "\n")
        sys.stdout.flush()
    if args.output is not None:
        args.output.write_text(json.dumps(results, indent=2) + "\n", encoding="utf8")


if __name__ == "__main__":
    main()
