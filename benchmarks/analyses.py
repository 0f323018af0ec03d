"""Time and peak memory of the analyses of layers and heads, each a command in its own process.

    python benchmarks/analyses.py MODEL --train en_ewt-ud-train.conllu --dev en_ewt-ud-dev.conllu \
        --chunks conll2000.spacy --output analyses.json

MODEL is a checkpoint or a pipeline. Whole commands are timed: loading, encoding, probes, report.
Nothing else should run beside. Linux and macOS.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated

import srsly
import torch
import typer

from spacy_bert.cli.report import print_table
from spacy_bert.files import replacing

MB = 1e6 if sys.platform == "darwin" else 1e3  # units of ru_maxrss


def main(
    model: Annotated[str, typer.Argument(help="A pipeline, or the checkpoint of a BERT.")],
    train: Annotated[Path, typer.Option(help="Treebank to learn from, .conllu or .spacy.")],
    dev: Annotated[Path, typer.Option(help="Treebank to score on.")],
    chunks: Annotated[Path, typer.Option(help="Docs with chunks in doc.ents, .spacy.")],
    only: Annotated[str, typer.Option(help="Names of analyses, with commas.  [all]")] = "",
    output: Annotated[Path, typer.Option(help="JSON.")] = Path("analyses.json"),
) -> None:
    """Run one after the other and print."""
    commands = {
        "part of speech": ["probe", model, train, dev, "--task", "pos"],
        "dependency": ["probe", model, train, dev, "--task", "dependency"],
        "phrase clusters": ["structure", model, chunks],
        "similarity": ["compare", model, dev],
        "geometry, 10,000 tokens": ["geometry", model, dev, "--points", "10000"],
        "relations of heads": ["relations", model, dev],
    }
    chosen = [name.strip() for name in only.split(",") if name.strip()] or list(commands)
    if unknown := set(chosen) - set(commands):
        raise SystemExit(f"no analysis {unknown.pop()!r}: there are {', '.join(commands)}")
    rows = [{"analysis": name, **measure(commands[name])} for name in chosen]
    with replacing(output) as temporary:
        about = {"torch": torch.__version__, "threads": torch.get_num_threads(), "model": model}
        srsly.write_json(temporary, {**about, "analyses": rows})
    print_table("Analyses", rows)


def measure(arguments: list[object]) -> dict[str, float]:
    """Run `analyze` with these arguments; seconds, and the peak of its resident memory in MB."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.html"
        command = [sys.executable, "-m", "spacy", "bert", "analyze", *map(str, arguments)]
        start = time.perf_counter()
        process = subprocess.Popen([*command, "--report", str(report)])
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - start
        if os.waitstatus_to_exitcode(status) or not report.exists():
            raise SystemExit(f"failed: {' '.join(command)}")
    return {"seconds": round(seconds, 1), "peak MB": round(usage.ru_maxrss / MB)}


if __name__ == "__main__":
    typer.run(main)
