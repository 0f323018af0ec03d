"""Features instead of fine-tuning: table 7 of Devlin et al. 2018 on CoNLL-2003, with any encoder.

    python benchmarks/features.py --encoder DIR --data DIR --output features.jsonl --seeds 3

`--data` is the folder of eng.train, eng.testa and eng.testb. A 2-layer BiLSTM and a softmax read
the layers of the frozen encoder (configs/features.cfg); the row "fine-tune" trains the encoder
instead, by `benchmarks/finetune.py`. Every finished training is a line of `--output`; the same
command does what is missing, and may be stopped at any time. The table is printed, and written
beside the lines, with the ending `.json`. "First epoch" includes the encoder's pass over the
training set, "later" is the mean of the epochs that find all features kept.
"""

from __future__ import annotations

import dataclasses
import gc
import itertools
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Annotated, Any

import finetune
import spacy
import typer
from spacy.language import Language
from spacy.tokens import Doc

EMBED = "components.bert_ner.model.tok2vec.embed"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Row:
    """A row of the paper's table: what is read, and its F1 on dev."""

    title: str
    paper: float
    layers: list[int] | None
    combine: str = "concat"


ROWS = {
    "embeddings": Row(title="Embeddings", paper=91.0, layers=[0]),
    "second-to-last": Row(title="Second-to-last hidden", paper=95.6, layers=[-2]),
    "last": Row(title="Last hidden", paper=94.9, layers=[-1]),
    "weighted-last-four": Row(
        title="Weighted sum, last four", paper=95.9, layers=[-4, -3, -2, -1], combine="weighted"
    ),
    "concat-last-four": Row(title="Concat, last four", paper=96.1, layers=[-4, -3, -2, -1]),
    "weighted-all": Row(title="Weighted sum, all", paper=95.5, layers=None, combine="weighted"),
    "fine-tune": Row(title="Fine-tune all", paper=96.4, layers=None),
}
FEATURES = [name for name in ROWS if name != "fine-tune"]


class Clock:
    """When each epoch began; an epoch ends where the next begins or training ends."""

    def __init__(self) -> None:
        self.marks: list[float] = []

    def before_update(self, nlp: Language, state: dict[str, Any]) -> None:
        """What `[training] before_update` calls before each batch."""
        if state["epoch"] == len(self.marks):
            self.marks.append(time.perf_counter())

    def seconds(self) -> list[float]:
        """Of each epoch but the last, whose end is not seen."""
        return [round(end - begin, 2) for begin, end in itertools.pairwise(self.marks)]


CLOCK = Clock()


@spacy.registry.callbacks("features_clock")
def build_clock() -> Callable[[Language, dict[str, Any]], None]:
    """The callback that a training config names."""
    return CLOCK.before_update


def main(
    encoder: Annotated[Path, typer.Option(help="BERT checkpoint directory.")],
    data: Annotated[Path, typer.Option(help="Folder of CoNLL-2003.")],
    output: Annotated[Path, typer.Option(help="JSON Lines, added to.")],
    rows: Annotated[str, typer.Option(help=f"Of {', '.join(ROWS)}.")] = ",".join(FEATURES),
    seeds: Annotated[int, typer.Option(help="Trainings of each row.")] = 1,
    epochs: Annotated[int, typer.Option(help="Of the BiLSTM; fine-tuning has 3.")] = 10,
    width: Annotated[int, typer.Option(help="Of the BiLSTM, both directions together.")] = 768,
    learning_rate: Annotated[float, typer.Option(help="Its peak, of the BiLSTM.")] = 1e-3,
    cache_mb: Annotated[int, typer.Option(help="Memory for features.")] = 8192,
    limit: Annotated[int, typer.Option(help="Sentences of each split; 0: all.")] = 0,
) -> None:
    """Do the trainings that `output` lacks, then print the table beside the paper's."""
    chosen = rows.split(",")
    for name in chosen:
        if name not in ROWS:
            raise typer.BadParameter(f"there is no row {name!r}: choose from {', '.join(ROWS)}")
    setting = {
        "encoder": str(encoder),
        "epochs": epochs,
        "width": width,
        "learning_rate": learning_rate,
        "limit": limit,
    }
    wanted = list(itertools.product(chosen, range(1, seeds + 1)))
    output.parent.mkdir(parents=True, exist_ok=True)
    for name, seed in wanted:
        if (name, seed) in read(output, setting):
            continue
        figures = train(name, seed, data=data, cache_mb=cache_mb, **setting)
        with output.open("a", encoding="utf8") as lines:
            lines.write(json.dumps({"row": name, **figures, "setting": setting}) + "\n")
        typer.echo(f"{name} {seed}: dev {100 * figures['dev_f1']:.1f}", err=True)
        gc.collect()  # a pipeline has cycles, and keeps its features
    done = read(output, setting)
    table = [summary(name, [done[run] for run in wanted if run[0] == name]) for name in chosen]
    output.with_suffix(".json").write_text(
        json.dumps({"setting": setting, "rows": table}, indent=2) + "\n", encoding="utf8"
    )
    typer.echo(markdown(table))


def read(output: Path, setting: dict[str, Any]) -> dict[tuple[str, int], dict[str, Any]]:
    """The finished trainings of this setting."""
    if not output.is_file():
        return {}
    lines = map(json.loads, output.read_text(encoding="utf8").splitlines())
    return {(line["row"], line["seed"]): line for line in lines if line["setting"] == setting}


def train(
    name: str,
    seed: int,
    *,
    data: Path,
    encoder: str,
    epochs: int,
    width: int,
    learning_rate: float,
    cache_mb: int,
    limit: int,
) -> dict[str, Any]:
    """The figures of one training."""
    overrides: dict[str, Any] = {
        "paths.encoder": encoder,
        "training.before_update": {"@callbacks": "features_clock"},
    }
    task = finetune.TASKS["conll2003"]
    if name != "fine-tune":
        overrides |= {
            "training.max_epochs": epochs,
            "training.max_steps": 0,
            "training.optimizer.learn_rate.initial_rate": learning_rate,
            "corpora.dev.limit": 100,  # the last model is scored, on all of dev
            f"{EMBED}.layers": ROWS[name].layers,
            f"{EMBED}.combine": ROWS[name].combine,
            f"{EMBED}.cache_mb": cache_mb,
            "components.bert_ner.model.tok2vec.encode.width": width,
        }
        task = dataclasses.replace(task, config="../configs/features.cfg", epochs=epochs)
    if limit:
        task = dataclasses.replace(task, read=lambda folder: first_docs(folder, limit))
    CLOCK.marks.clear()
    with tempfile.TemporaryDirectory() as folder:
        figures = finetune.run("conll2003", task, data, seed, Path(folder), overrides)
    return {**figures, "epoch_s": CLOCK.seconds()}


def first_docs(data: Path, limit: int) -> dict[str, Iterable[Doc]]:
    """The first sentences of each split."""
    splits = finetune.read_conll2003(data)
    return {split: list(itertools.islice(docs, limit)) for split, docs in splits.items()}


def summary(name: str, runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Means over the seeds, in percent and seconds."""
    dev = [100 * run["dev_f1"] for run in runs]
    epochs = [run["epoch_s"] for run in runs]
    later = [second for seconds in epochs for second in seconds[1:]]
    return {
        "row": name,
        "title": ROWS[name].title,
        "dev_f1": statistics.mean(dev),
        "dev_sd": statistics.stdev(dev) if len(dev) > 1 else None,
        "test_f1": 100 * statistics.mean(run["test_f1"] for run in runs),
        "paper_dev_f1": ROWS[name].paper,
        "first_epoch_s": statistics.mean(s[0] for s in epochs) if all(epochs) else None,
        "later_epoch_s": statistics.mean(later) if later else None,
        "seeds": len(runs),
    }


def markdown(table: list[dict[str, Any]]) -> str:
    """The table as people read it."""

    def show(value: float | None) -> str:
        return "" if value is None else f"{value:.1f}"

    lines = [
        "| features | dev F1 | ± | test F1 | paper, dev | first epoch, s | later, s | seeds |",
        "|---|---|---|---|---|---|---|---|",
    ]
    columns = ("dev_f1", "dev_sd", "test_f1", "paper_dev_f1", "first_epoch_s", "later_epoch_s")
    for row in table:
        cells = [row["title"], *(show(row[name]) for name in columns), str(row["seeds"])]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    typer.run(main)
