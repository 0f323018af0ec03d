"""Building shards: speed beside raw `tokenizers.encode_batch`, and memory at two sizes.

    python benchmarks/shards.py CORPUS.jsonl.gz --tokenizer DIR --output result.json

The first 10 and 100 million characters of the corpus are written as text with a sentence (here: a
line) a line; each measurement runs in a process of its own, one worker.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from itertools import chain, islice
from pathlib import Path
from typing import Annotated

import typer

from spacy_bert.pretraining.building import write_shards
from spacy_bert.pretraining.corpus import TextCorpus
from spacy_bert.wordpiece import WordPiece

SIZES = {"10 MB": 10_000_000, "100 MB": 100_000_000}
_LINES_AT_A_TIME = 1000

app = typer.Typer(add_completion=False)


@app.command()
def main(
    corpus: Annotated[Path, typer.Argument(help="Any corpus that `prepare` reads.")],
    tokenizer: Annotated[Path, typer.Option(help="Directory of the tokenizer.")],
    output: Annotated[Path | None, typer.Option(help="JSON file for the result.")] = None,
) -> None:
    """Measure and print characters a second, the ratio, and peak memory."""
    result: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, size in SIZES.items():
            text = Path(folder) / "text.txt"
            characters = write_text(corpus, text, size)
            for task in ("shards", "encode_batch"):
                figures = measure(task, text, tokenizer)
                figures["characters_per_second"] = characters / figures["seconds"]
                result[f"{task}, {name}"] = figures
                typer.echo(
                    f"{task:<13} {name:>7}: {figures['characters_per_second'] / 1e6:6.2f} M "
                    f"characters/s, peak memory {figures['peak_mb']:,.0f} MB"
                )
    for name in SIZES:
        speeds = [result[f"{task}, {name}"]["seconds"] for task in ("encode_batch", "shards")]
        typer.echo(f"ratio {name}: {speeds[0] / speeds[1]:.2f}")
    if output is not None:
        output.write_text(json.dumps(result, indent=2) + "\n")


def write_text(corpus: Path, file: Path, size: int) -> int:
    """Write so many characters of the corpus as text with blank lines between documents."""
    done = 0
    with file.open("w", encoding="utf8") as stream:
        for document in TextCorpus(corpus).texts():
            done += stream.write(document.replace("\n\n", "\n").strip() + "\n\n")
            if done >= size:
                return done
    raise typer.BadParameter(f"{corpus}: holds {done:,} characters, {size:,} are needed")


def measure(task: str, text: Path, tokenizer: Path) -> dict[str, float]:
    """Run a task of this file in a process of its own."""
    command = [sys.executable, __file__, "--task", task, str(text), str(tokenizer)]
    environment = {**os.environ, "TOKENIZERS_PARALLELISM": "false"}
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    figures: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return figures


def run_task(task: str, text: Path, tokenizer: Path) -> None:
    """Do one task and print seconds and peak memory as JSON."""
    wordpiece = WordPiece.load(tokenizer)
    started = time.perf_counter()
    if task == "shards":
        with tempfile.TemporaryDirectory() as folder:
            write_shards(TextCorpus(text), folder, wordpiece, dev_share=0.05)
    else:
        from tokenizers import Tokenizer

        raw = Tokenizer.from_file(str(tokenizer / "tokenizer.json"))
        lines = chain.from_iterable(TextCorpus(text))
        while batch := list(islice(lines, _LINES_AT_A_TIME)):
            for encoding in raw.encode_batch(batch, add_special_tokens=False):
                encoding.ids  # noqa: B018  what shards are made of
    seconds = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"seconds": seconds, "peak_mb": peak}))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--task"]:
        run_task(sys.argv[2], Path(sys.argv[3]), Path(sys.argv[4]))
    else:
        app()
