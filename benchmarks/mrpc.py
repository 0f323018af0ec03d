"""Fine-tune on GLUE MRPC with `spacy train`: pairs of sentences through `spacy_bert.join`.

    python benchmarks/mrpc.py --data DIR/MRPC --encoder DIR --seed 1 --output mrpc.json

`--data` holds GLUE's train.tsv and dev.tsv; `--encoder` is a BERT checkpoint directory. Prints one
JSON line with accuracy and F1 of the last model on the development set.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
import tempfile
import time
from pathlib import Path

import spacy
from spacy.cli.train import train
from spacy.tokens import DocBin

import spacy_bert


def convert(source: Path, target: Path) -> None:
    """GLUE's tsv -> DocBin; each pair is a Doc of two segments."""
    nlp = spacy.blank("en")
    docs = DocBin()
    with source.open(encoding="utf8", newline="") as file:
        for row in csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE):
            doc = spacy_bert.join(nlp, row["#1 String"], row["#2 String"])
            same = row["Quality"] == "1"
            doc.cats = {"equivalent": float(same), "different": float(not same)}
            docs.add(doc)
    docs.to_disk(target)


def run(data: Path, encoder: Path, seed: int, folder: Path) -> dict[str, float]:
    """Train and score one seed."""
    for split in ("train", "dev"):
        convert(data / f"{split}.tsv", folder / f"{split}.spacy")
    started = time.perf_counter()
    train(
        Path(__file__).with_name("mrpc.cfg"),
        folder / "model",
        overrides={
            "paths.encoder": str(encoder),
            "paths.train": str(folder / "train.spacy"),
            "paths.dev": str(folder / "dev.spacy"),
            "training.seed": seed,
        },
    )
    seconds = time.perf_counter() - started
    nlp = spacy.load(folder / "model" / "model-last")
    golds = list(DocBin().from_disk(folder / "dev.spacy").get_docs(nlp.vocab))
    texts = (gold.text for gold in golds)
    pairs = [
        (gold.cats["equivalent"] > 0.5, doc.cats["equivalent"] > 0.5)
        for gold, doc in zip(golds, nlp.pipe(texts), strict=True)
    ]
    hits = sum(gold and guess for gold, guess in pairs)
    return {
        "task": "mrpc",
        "seed": seed,
        "acc": sum(gold == guess for gold, guess in pairs) / len(pairs),
        "f1": 2 * hits / sum(gold + guess for gold, guess in pairs),
        "train_s": round(seconds, 1),
    }


def main() -> None:
    """Read the command line and print one JSON line a seed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="folder with train.tsv, dev.tsv")
    parser.add_argument("--encoder", type=Path, required=True, help="BERT checkpoint directory")
    parser.add_argument("--seed", type=int, nargs="+", default=[1])
    parser.add_argument("--output", type=Path, help="also write the results to this JSON file")
    args = parser.parse_args()
    results = []
    for seed in args.seed:
        with tempfile.TemporaryDirectory() as folder:
            results.append(run(args.data, args.encoder, seed, Path(folder)))
        sys.stdout.write(json.dumps(results[-1]) + "\n")
        sys.stdout.flush()
    if args.output is not None:
        args.output.write_text(json.dumps(results, indent=2) + "\n", encoding="utf8")


if __name__ == "__main__":
    main()
