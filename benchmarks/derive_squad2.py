"""Make a set in the form of SQuAD 2.0 of one in that of 1.1: some questions get no answer.

    python benchmarks/derive_squad2.py --train train-v1.1.json --dev dev-v1.1.json --output DIR
    python -m spacy bert reproduce squad2 results --data PARENT_OF_DIR --encoder DIR

A third of the questions is asked again, of another paragraph: of those that hold none of its
answers, the one most like the question (tf-idf). Such a question is plausible where it stands, and
has no answer there. `--output` must be named `squad`; it gets train-v2.0.json and dev-v2.0.json.
"""

from __future__ import annotations

import argparse
import json
import random
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer

from spacy_bert.files import replacing
from spacy_bert.pretraining.corpus import open_text

SHARE = 1 / 3


def read(file: Path) -> list[dict[str, Any]]:
    """The paragraphs of all articles."""
    with open_text(file) as stream:
        return [part for article in json.load(stream)["data"] for part in article["paragraphs"]]


def derive(paragraphs: list[dict[str, Any]], seed: int = 0) -> list[dict[str, Any]]:
    """The same paragraphs, with unanswerable questions beside their own."""
    contexts = [paragraph["context"] for paragraph in paragraphs]
    model = TfidfVectorizer(sublinear_tf=True, stop_words="english")
    known = model.fit_transform(contexts)
    questions = [question for paragraph in paragraphs for question in paragraph["qas"]]
    chosen = random.Random(seed).sample(questions, int(SHARE * len(questions)))
    similar = (model.transform([q["question"] for q in chosen]) @ known.T).tocsr()
    found: list[list[dict[str, Any]]] = [[] for _ in paragraphs]
    for number, question in enumerate(chosen):
        answers = {answer["text"].lower() for answer in question["answers"]}
        row = similar[number]
        for place in row.indices[np.argsort(-row.data)]:
            if not any(answer in contexts[place].lower() for answer in answers):
                new = {"id": f"{question['id']}-none", "question": question["question"]}
                found[place].append({**new, "answers": [], "is_impossible": True})
                break
    return [
        {
            "context": paragraph["context"],
            "qas": [{**q, "is_impossible": False} for q in paragraph["qas"]] + added,
        }
        for paragraph, added in zip(paragraphs, found, strict=True)
    ]


def main() -> None:
    """Read the command line, write both files, print the counts."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--train", type=Path, required=True)
    parser.add_argument("--dev", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    args = parser.parse_args()
    for split in ("train", "dev"):
        paragraphs = derive(read(getattr(args, split)))
        with replacing(args.output / f"{split}-v2.0.json") as temporary:
            text = json.dumps(
                {"version": "v2.0", "data": [{"title": "", "paragraphs": paragraphs}]}
            )
            temporary.write_text(text, encoding="utf8")
        asked = [question for paragraph in paragraphs for question in paragraph["qas"]]
        none = sum(question["is_impossible"] for question in asked)
        print(f"{split}: {len(asked):,} questions, {none:,} of them without an answer")


if __name__ == "__main__":
    main()
