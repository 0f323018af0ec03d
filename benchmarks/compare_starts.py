"""Fine-tune on many tasks with many seeds, from a checkpoint and from random weights; a table.

    python benchmarks/compare_starts.py --encoder DIR --data DIR --output results.jsonl --jobs 2

`--data` holds a folder for each task: glue/MRPC, glue/SST-2, ..., conll2003, squad. Every finished
run is a line of `--output`; the same command does what is missing, and may be stopped at any time.
What a run does is in `benchmarks/finetune.py`.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated, NamedTuple

import typer

FINETUNE = Path(__file__).with_name("finetune.py")
# Where a task's files stand, and how many seeds say enough: small sets vary more.
TASKS = {
    "mrpc": ("glue/MRPC", 3),
    "rte": ("glue/RTE", 3),
    "cola": ("glue/CoLA", 3),
    "stsb": ("glue/STS-B", 3),
    "sst2": ("glue/SST-2", 2),
    "conll2003": ("conll2003", 2),
    "squad": ("squad", 2),
}
NO_SCORES = {"task", "seed", "start", "train_s", "docs", "encoder"}


class Run(NamedTuple):
    """One training."""

    task: str
    start: str
    seed: int


def main(
    encoder: Annotated[Path, typer.Option(help="BERT checkpoint directory.")],
    data: Annotated[Path, typer.Option(help="Folder of the tasks' folders.")],
    output: Annotated[Path, typer.Option(help="JSON Lines, added to.")],
    tasks: Annotated[str, typer.Option(help="Which, with commas.")] = ",".join(TASKS),
    starts: Annotated[str, typer.Option(help="pretrained, random or both.")] = "pretrained,random",
    seeds: Annotated[int, typer.Option(help="Seeds a task; 0: by its size.")] = 0,
    learning_rate: Annotated[float, typer.Option(help="Its peak.")] = 5e-5,
    jobs: Annotated[int, typer.Option(help="Trainings at a time, a thread each.")] = 1,
) -> None:
    """Do the runs that `output` lacks, then print means and standard deviations."""
    wanted = [
        Run(task, start, seed)
        for task in tasks.split(",")
        for seed in range(1, (seeds or TASKS[task][1]) + 1)
        for start in starts.split(",")
    ]
    done = read(output)
    missing = [run for run in wanted if run not in done]
    output.parent.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(jobs) as pool:
        for run, figures in zip(
            missing,
            pool.map(lambda run: train(run, encoder, data, learning_rate), missing),
            strict=True,
        ):
            with output.open("a", encoding="utf8") as lines:
                lines.write(json.dumps({**figures, "start": run.start}) + "\n")
            typer.echo(f"{run.task} {run.start} {run.seed}: {show(figures)}", err=True)
    typer.echo(table(wanted, read(output)))


def read(output: Path) -> dict[Run, dict[str, float]]:
    """The finished runs and their figures."""
    if not output.is_file():
        return {}
    rows = map(json.loads, output.read_text(encoding="utf8").splitlines())
    return {Run(row["task"], row["start"], row["seed"]): row for row in rows}


def train(run: Run, encoder: Path, data: Path, learning_rate: float) -> dict[str, float]:
    """The figures of one training, in a process of its own."""
    command = [
        *(sys.executable, str(FINETUNE), run.task, "--data", str(data / TASKS[run.task][0])),
        *("--encoder", str(encoder), "--seed", str(run.seed)),
        *("--learning-rate", str(learning_rate)),
        *(["--random-start"] if run.start == "random" else []),
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")
    figures: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return figures


def show(figures: dict[str, float]) -> str:
    """The scores of a run, in percent."""
    return " ".join(
        f"{name} {100 * value:.1f}" for name, value in figures.items() if name not in NO_SCORES
    )


def table(wanted: Iterable[Run], done: dict[Run, dict[str, float]]) -> str:
    """Mean and standard deviation of each score over the seeds, a line a task, score and start."""
    groups: dict[tuple[str, str, str], list[float]] = {}
    for run in wanted:
        for name, value in done[run].items():
            if name not in NO_SCORES:
                groups.setdefault((run.task, name, run.start), []).append(100 * value)
    lines = ["| task | score | start | mean | sd | seeds |", "|---|---|---|---|---|---|"]
    for (task, name, start), values in sorted(groups.items()):
        spread = f"{statistics.stdev(values):.1f}" if len(values) > 1 else ""
        mean = statistics.mean(values)
        lines.append(f"| {task} | {name} | {start} | {mean:.1f} | {spread} | {len(values)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    typer.run(main)
