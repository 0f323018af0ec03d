"""Peak memory of a pipeline over extreme inputs, each measured in a process of its own.

    python benchmarks/memory.py --encoder DIR --output memory.json

Prints for each case the peak of the resident memory over that of the idle pipeline (`bert`,
`bert_ner`, `bert_textcat`; for a question, `bert`, `bert_span_qa`), in MB. Linux only: the peak is
read from /proc.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import spacy
from spacy.language import Language
from spacy.tokens import Doc
from spacy.training import Example

import spacy_bert
from spacy_bert.models.optimizer import build_adamw

TEXT = "the quick brown fox jumps over a lazy dog and Ada Lovelace of London wrote it down ."


def words(count: int) -> list[str]:
    """A text of so many tokens."""
    return random.Random(count).choices(TEXT.split(), k=count)


def example(nlp: Language, count: int) -> Example:
    """A Doc of so many tokens with entities and a class."""
    tokens = words(count)
    ents = ["B-PER" if word in ("Ada", "London") else "O" for word in tokens]
    reference = Doc(nlp.vocab, words=tokens, ents=ents)
    reference.cats = {"A": 1.0, "B": 0.0}
    return Example(Doc(nlp.vocab, words=tokens), reference)


def build(encoder: str) -> Language:
    """The pipeline, initialized and warm."""
    nlp = spacy.blank("en")
    nlp.add_pipe("bert", config={"model": {"name": encoder}})
    nlp.add_pipe("bert_ner")
    nlp.add_pipe("bert_textcat")
    nlp.initialize(lambda: [example(nlp, 50)])
    nlp(" ".join(words(100)))
    return nlp


def build_reader(encoder: str) -> Language:
    """A pipeline that answers questions, initialized and warm."""
    nlp = spacy.blank("en")
    nlp.add_pipe("bert", config={"model": {"name": encoder, "window": 384, "stride": 128}})
    nlp.add_pipe("bert_span_qa")
    doc = spacy_bert.join(nlp, "Who wrote it?", TEXT)
    doc.spans["answers"] = [doc[-2:-1]]
    nlp.initialize(lambda: [Example(doc.copy(), doc)])
    spacy_bert.ask(nlp, "Who wrote it?", TEXT)
    return nlp


def ask_long(nlp: Language) -> None:
    """A question about a context of 20,000 tokens."""
    assert spacy_bert.ask(nlp, "Who wrote it down?", " ".join(words(20_000)))


def predict_long(nlp: Language) -> None:
    """One Doc of 100,000 tokens."""
    doc = nlp(Doc(nlp.vocab, words=words(100_000)))
    assert len(doc) == 100_000


def predict_stream(nlp: Language) -> None:
    """100,000 short texts."""
    texts = (" ".join(words(3 + i % 8)) for i in range(100_000))
    assert sum(1 for _ in nlp.pipe(texts, batch_size=256)) == 100_000


def predict_degenerate(nlp: Language) -> None:
    """Empty, blank and one-token texts, in one stream."""
    docs = list(nlp.pipe(["", " ", "\n\n\t", "a", "."] * 1000))
    assert len(docs) == 5000


def update_long(nlp: Language) -> None:
    """Training on one Doc of 20,000 tokens."""
    optimizer = build_adamw(1e-5)
    for _ in range(2):
        nlp.update([example(nlp, 20_000)], sgd=optimizer, drop=0.1)
    nlp("The last step is taken.")


def update_batch(nlp: Language) -> None:
    """Training on 400 sentences of 50 tokens at once."""
    nlp.update([example(nlp, 50) for _ in range(400)], sgd=build_adamw(1e-5), drop=0.1)
    nlp("The last step is taken.")


CASES: dict[str, Callable[[Language], None]] = {
    function.__name__: function
    for function in (
        ask_long,
        predict_degenerate,
        predict_long,
        predict_stream,
        update_batch,
        update_long,
    )
}


def status() -> Iterator[tuple[str, float]]:
    """Memory of this process in MB: VmRSS (now), VmHWM (peak)."""
    for line in Path("/proc/self/status").read_text().splitlines():
        name, _, value = line.partition(":")
        if name in ("VmRSS", "VmHWM"):
            yield name, int(value.split()[0]) / 1024


def measure(case: str, encoder: str) -> dict[str, float]:
    """Run one case in this process."""
    nlp = (build_reader if case == "ask_long" else build)(encoder)
    idle = dict(status())["VmRSS"]
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts from here
    started = time.perf_counter()
    CASES[case](nlp)
    seconds = time.perf_counter() - started
    return {
        "idle_mb": round(idle),
        "peak_over_idle_mb": round(dict(status())["VmHWM"] - idle),
        "seconds": round(seconds, 1),
    }


def main() -> None:
    """Read the command line and print one JSON line a case."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--encoder", required=True, help="BERT checkpoint directory or hub id")
    parser.add_argument("--case", choices=CASES, nargs="+", default=list(CASES))
    parser.add_argument("--output", type=Path, help="also write the results to this JSON file")
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.here:
        (case,) = args.case
        sys.stdout.write(json.dumps(measure(case, args.encoder)))
        return
    results = {}
    for case in args.case:
        command = [sys.executable, __file__, "--here", "--case", case, "--encoder", args.encoder]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        results[case] = json.loads(done.stdout.splitlines()[-1])
        sys.stdout.write(json.dumps({"case": case, **results[case]}) + "\n")
        sys.stdout.flush()
    if args.output is not None:
        args.output.write_text(json.dumps(results, indent=2) + "\n", encoding="utf8")


if __name__ == "__main__":
    main()
