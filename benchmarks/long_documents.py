"""Entities of long documents against the same sentences one by one.

    python benchmarks/long_documents.py MODEL TEST.spacy --tokens 3000 --output long.json

`MODEL` is a trained pipeline with `bert_ner`, `TEST.spacy` holds one sentence a Doc, such as
`python -m spacy bert reproduce conll2003-sentences,conll2003-joined` leaves in `training` and
`data`. Sentences are joined, in order, to documents of at least `--tokens` tokens. Prints the F1 of
both and where in the document entities are lost.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import spacy
from spacy.language import Language
from spacy.tokens import Doc, DocBin
from spacy.training import Example


def join_sentences(sentences: Iterable[Doc], tokens: int) -> Iterator[Doc]:
    """Documents of at least so many tokens (the last may be shorter)."""
    group: list[Doc] = []
    for sentence in sentences:
        group.append(sentence)
        if sum(map(len, group)) >= tokens:
            yield Doc.from_docs(group)
            group = []
    if group:
        yield Doc.from_docs(group)


def f1(nlp: Language, golds: Iterable[Doc]) -> dict[str, float]:
    """Entity F1 on the gold tokens, over all and by quarter of the document."""
    examples = [
        Example(
            Doc(
                nlp.vocab, words=[t.text for t in gold], spaces=[bool(t.whitespace_) for t in gold]
            ),
            gold,
        )
        for gold in golds
    ]
    for example, doc in zip(examples, nlp.pipe([e.predicted for e in examples]), strict=True):
        example.predicted = doc
    found: list[tuple[float, bool, bool]] = []
    for example in examples:
        spans = [
            {(e.start, e.end, e.label_) for e in doc.ents}
            for doc in (example.reference, example.predicted)
        ]
        length = len(example.reference)
        found += [(s[0] / length, s in spans[0], s in spans[1]) for s in spans[0] | spans[1]]

    def score(low: float, high: float) -> float:
        part = [(gold, guess) for place, gold, guess in found if low <= place < high]
        hits = sum(gold and guess for gold, guess in part)
        return 2 * hits / max(sum(gold + guess for gold, guess in part), 1)

    quarters = {f"quarter_{i + 1}": score(i / 4, (i + 1) / 4) for i in range(4)}
    return {"f1": score(0.0, 1.0), **quarters}


def main() -> None:
    """Read the command line, print and write the scores."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("model", type=Path)
    parser.add_argument("test", type=Path)
    parser.add_argument("--tokens", type=int, default=3000)
    parser.add_argument("--window", type=int, nargs="*", default=[None], help="pieces in a window")
    parser.add_argument("--output", type=Path, help="also write the results to this JSON file")
    args = parser.parse_args()
    nlp = spacy.load(args.model)
    sentences = list(DocBin().from_disk(args.test).get_docs(nlp.vocab))
    documents = list(join_sentences(sentences, args.tokens))
    result: dict[str, object] = {
        "sentences": len(sentences),
        "documents": len(documents),
        "tokens": sum(map(len, sentences)),
        "apart": f1(nlp, sentences)["f1"],
    }
    for window in args.window:
        override = {} if window is None else {"components.bert.model.window": window}
        loaded = spacy.load(args.model, config=override)
        result["joined" if window is None else f"joined_window_{window}"] = f1(loaded, documents)
    sys.stdout.write(json.dumps(result, indent=2) + "\n")
    if args.output is not None:
        args.output.write_text(json.dumps(result, indent=2) + "\n", encoding="utf8")


if __name__ == "__main__":
    main()
