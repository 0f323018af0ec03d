"""What an epoch costs in the feature-based mode, the first time and once the features are kept.

    python benchmarks/feature_epochs.py --encoder DIR --train TRAIN.spacy --output epochs.json

`--train` holds annotated entities, such as `python -m spacy bert reproduce conll2003-last-hidden`
leaves in its `data`. A BiLSTM reads the last four layers of the frozen encoder. The first epoch
includes the encoder's pass over the texts; "later" is the median of those after it.
"""

from __future__ import annotations

import itertools
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import spacy
import torch
import typer
from spacy.cli.train import train
from spacy.language import Language
from spacy.tokens import DocBin
from spacy.util import registry

from spacy_bert.pipeline.starter import make_starter


class Clock:
    """When each epoch began; an epoch ends where the next begins."""

    def __init__(self) -> None:
        self.marks: list[float] = []

    def before_update(self, nlp: Language, state: dict[str, Any]) -> None:
        """What `[training] before_update` calls before each batch."""
        if state["epoch"] == len(self.marks):
            self.marks.append(time.perf_counter())

    def seconds(self) -> list[float]:
        """Of each epoch but the last, whose end is not seen."""
        return [end - begin for begin, end in itertools.pairwise(self.marks)]


CLOCK = Clock()


@registry.callbacks("feature_epochs_clock")
def build_clock() -> Callable[[Language, dict[str, Any]], None]:
    """The callback that the training config names."""
    return CLOCK.before_update


def main(
    encoder: Annotated[Path, typer.Option(help="BERT checkpoint directory.")],
    train_file: Annotated[Path, typer.Option("--train", help="A .spacy file.")],
    output: Annotated[Path, typer.Option(help="JSON.")] = Path("feature_epochs.json"),
    widths: Annotated[str, typer.Option(help="Of the BiLSTM, both directions.")] = "256,768",
    epochs: Annotated[int, typer.Option(help="That are timed.")] = 4,
    threads: Annotated[int, typer.Option(help="Of torch.")] = 1,
    limit: Annotated[int, typer.Option(help="Texts; 0: all.")] = 0,
) -> None:
    """Train with each width; microseconds a token of the first epoch, and of later ones."""
    torch.set_num_threads(threads)
    docs = list(DocBin().from_disk(train_file).get_docs(spacy.blank("en").vocab))
    tokens = sum(map(len, docs[: limit or None]))
    rows = []
    for width in map(int, widths.split(",")):
        first, *later = time_epochs(encoder, train_file, width, epochs, limit)
        rows.append(
            {
                "width": width,
                "first_us": 1e6 * first / tokens,
                "later_us": 1e6 * statistics.median(later) / tokens,
            }
        )
        typer.echo(json.dumps(rows[-1]))
    result = {"encoder": str(encoder), "tokens": tokens, "threads": threads, "rows": rows}
    output.write_text(json.dumps(result, indent=2) + "\n", encoding="utf8")


def time_epochs(encoder: Path, file: Path, width: int, epochs: int, limit: int) -> list[float]:
    """Seconds of each epoch."""
    config = make_starter(["bert_ner"], str(encoder), features=True).config
    config["components"]["bert_ner"]["model"]["tok2vec"]["encode"]["width"] = width
    config["paths"] |= {"train": str(file), "dev": str(file)}
    config["corpora"]["train"]["limit"] = limit
    config["corpora"]["dev"]["limit"] = 1
    config["training"] |= {
        "before_update": {"@callbacks": "feature_epochs_clock"},
        "max_epochs": epochs + 1,
        "max_steps": 0,
        "patience": 0,
        "eval_frequency": 1_000_000,
    }
    config_file = Path(f"feature_epochs_{width}.cfg")
    config.to_disk(config_file)
    CLOCK.marks.clear()
    try:
        train(config_file, None)
    finally:
        config_file.unlink()
    return CLOCK.seconds()


if __name__ == "__main__":
    typer.run(main)
