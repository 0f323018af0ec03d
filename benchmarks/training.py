"""`spacy train` beside the plain loop over Hugging Face's classes: seconds, and peak memory.

    python -m spacy bert data iob eng.train train.spacy
    python -m spacy bert data iob eng.testa dev.spacy
    python benchmarks/training.py train.spacy dev.spacy --encoder DIR --output training.json

Both fine-tune the same encoder on the same entities by the same recipe, epochs and batches, look
at 500 Docs of the development set after each epoch, and save the model: all of it counts, from the
start of the process to its end. They take turns, round after round; medians and the ratio are
printed and written. A busy machine is refused. Linux only: the peak is the kernel's.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated, Any

import spacy
import srsly
import torch
import transformers
import typer
from huggingface import read_docs, run_epochs
from huggingface_tasks import TASKS, Task
from spacy.scorer import get_ner_prf
from spacy.tokens import DocBin
from spacy.training import Corpus

from spacy_bert.cli.report import print_table
from spacy_bert.experiments.catalog import EXPERIMENTS
from spacy_bert.experiments.catalog_config import DEV_LIMIT, experiment_config
from spacy_bert.files import replacing

EXPERIMENT = "conll2003-sentences"
RATE = 5e-5
IDLE = 0.3  # load of the machine up to which figures mean something
WAIT = 120  # seconds for the load to fall between runs
OURS, LOOP = "spacy train", "Hugging Face's loop"
Result = dict[str, Any]


def main(
    train: Annotated[Path, typer.Argument(help="Annotated sentences, .spacy.")],
    dev: Annotated[Path, typer.Argument(help="Likewise.")],
    encoder: Annotated[Path, typer.Option(help="BERT checkpoint directory.")],
    limit: Annotated[int, typer.Option(help="Sentences to train on, the first ones.")] = 4000,
    epochs: Annotated[int, typer.Option(help="Passes over them.")] = 1,
    rounds: Annotated[int, typer.Option(help="How often each runs.")] = 3,
    threads: Annotated[int, typer.Option(help="Of torch.")] = 2,
    output: Annotated[Path, typer.Option(help="JSON.")] = Path("training.json"),
    busy: Annotated[bool, typer.Option("--busy", help="Run on a busy machine too.")] = False,
    loop: Annotated[Path | None, typer.Option(hidden=True)] = None,
) -> None:
    """Measure and print."""
    if loop is not None:
        train_loop(train, dev, encoder, loop, epochs, threads)
        return
    load = os.getloadavg()[0]
    if load > IDLE and not busy:
        raise SystemExit(f"the machine is busy (load {load:.2f}): wait until it is below {IDLE}")
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        DocBin(docs=read_docs(train)[:limit]).to_disk(work / "train.spacy")
        DocBin(docs=read_docs(dev)).to_disk(work / "dev.spacy")
        config = experiment_config(
            EXPERIMENTS[EXPERIMENT],
            str(encoder),
            work,
            pretrained=True,
            seed=1,
            learning_rate=RATE,
            epochs=epochs,
            overrides={},
        )
        config.to_disk(work / "config.cfg")
        files = [str(work / "train.spacy"), str(work / "dev.spacy")]
        commands = {
            OURS: [
                "-m",
                "spacy",
                "train",
                str(work / "config.cfg"),
                "--output",
                str(work / "ours"),
            ],
            LOOP: [
                *[__file__, *files, "--encoder", str(encoder), "--epochs", str(epochs)],
                *["--threads", str(threads), "--loop", str(work / "theirs")],
            ],
        }
        runs: dict[str, list[Result]] = {way: [] for way in commands}
        for _ in range(rounds):
            for way, command in commands.items():
                if not busy:
                    wait_until_idle()
                runs[way].append(run(command, threads))
        scores = {
            OURS: score(work / "ours/model-last", work / "dev.spacy"),
            LOOP: srsly.read_json(work / "theirs.json")["ents_f"],
        }
    rows = [
        {
            "way": way,
            "seconds": statistics.median(one["seconds"] for one in own),
            "peak_mb": statistics.median(one["peak_mb"] for one in own),
            "dev_f1": 100.0 * scores[way],
            "runs": own,
        }
        for way, own in runs.items()
    ]
    pairs = zip(*(runs[way] for way in commands), strict=True)
    ratio = statistics.median(ours["seconds"] / theirs["seconds"] for ours, theirs in pairs)
    results = {
        "sentences": limit,
        "epochs": epochs,
        "threads": threads,
        "load": load,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "ratio": ratio,
        "rows": rows,
    }
    with replacing(output) as temporary:
        srsly.write_json(temporary, results)
    print_table(
        f"{epochs} epochs of {limit:,} sentences, {threads} threads; times the loop: {ratio:.2f}",
        [{key: value for key, value in row.items() if key != "runs"} for row in rows],
    )


def score(model: Path, dev: Path) -> float:
    """F1 of a trained pipeline, which is not timed: `spacy train` has not scored its last step."""
    nlp = spacy.load(model)
    return float(nlp.evaluate(list(Corpus(dev, limit=DEV_LIMIT)(nlp)))["ents_f"])


def run(command: list[str], threads: int) -> Result:
    """Seconds and peak resident memory of a process.

    Raises:
        SystemExit: If it fails.
    """
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    begin = time.perf_counter()
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(
            [sys.executable, *command], env=environment, stdout=log, stderr=subprocess.STDOUT
        )
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            log.seek(0)
            raise SystemExit(f"{' '.join(command)} failed:\n{log.read()[-2000:]}")
    return {"seconds": time.perf_counter() - begin, "peak_mb": usage.ru_maxrss / 1024}


def wait_until_idle() -> None:
    """Let the load that the last run has left go down."""
    for _ in range(WAIT):
        if os.getloadavg()[0] <= IDLE:
            return
        time.sleep(1)


def train_loop(
    train: Path, dev: Path, encoder: Path, output: Path, epochs: int, threads: int
) -> None:
    """What a user of Hugging Face's classes writes, in a process of its own."""
    transformers.logging.set_verbosity_error()
    torch.set_num_threads(threads)
    torch.manual_seed(1)
    experiment = EXPERIMENTS[EXPERIMENT]
    docs = read_docs(train)
    tokenizer = transformers.AutoTokenizer.from_pretrained(encoder)
    task: Task = TASKS[experiment.component](tokenizer, docs)
    features = [feature for doc in docs for feature in task.encode(doc)]
    model = getattr(transformers, task.head).from_pretrained(encoder, **task.config())
    run_epochs(model, task, features, epochs, experiment.batch_size, RATE, False)
    model.eval()
    nlp = spacy.blank("en")
    examples = list(Corpus(dev, limit=DEV_LIMIT)(nlp))
    with torch.inference_mode():
        for _ in range(epochs):  # as often as a loop that looks after each epoch
            list(task.annotate(model, [example.predicted for example in examples]))
    model.save_pretrained(output)
    tokenizer.save_pretrained(output)
    srsly.write_json(output.with_suffix(".json"), {"ents_f": get_ner_prf(examples)["ents_f"]})


if __name__ == "__main__":
    typer.run(main)
