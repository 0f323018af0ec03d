"""The same fine-tuning by Hugging Face's classes: scores, seconds, and their models as pipelines.

    python -m spacy bert reproduce mrpc,rte RESULTS --data DIR --encoder CHECKPOINT --seeds 3
    python benchmarks/huggingface.py RESULTS --encoder CHECKPOINT --output results.json

For each experiment in `RESULTS` that has no Hugging Face run yet: trains the fitting
`AutoModelFor...` on the very Docs of ours by the same recipe (batches padded to their longest,
AdamW, linear warm-up and decay, clip 1.0), and scores it with our component's scorer. Its saved
model then becomes a pipeline by `spacy_bert.from_hf`, and both predict the same Docs. Prints and
writes a table beside the means of our seeds. The same command goes on where it was stopped.
Rows with fewer epochs than the recipe's serve to compare predictions, not figures.
"""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import spacy
import srsly
import torch
import transformers
import typer
from huggingface_tasks import TASKS, Feature, Task
from spacy.language import Language
from spacy.tokens import Doc, DocBin
from spacy.training import Corpus, Example
from spacy.util import minibatch
from tqdm import tqdm

import spacy_bert
from spacy_bert.cli.report import print_table
from spacy_bert.experiments.catalog import EXPERIMENTS, Experiment
from spacy_bert.files import replacing, replacing_directory

Result = dict[str, Any]
WARMUP, DECAY, CLIP = 0.1, 0.01, 1.0
WITHOUT_DECAY = ("bias", "LayerNorm.weight")


def main(
    results: Annotated[Path, typer.Argument(help="What `reproduce` has written.")],
    encoder: Annotated[Path, typer.Option(help="The checkpoint that it began with.")],
    output: Annotated[
        Path, typer.Option(help="JSON with the table; rows of other experiments are kept.")
    ] = Path("huggingface.json"),
    names: Annotated[str, typer.Option(help="Experiments, with commas.  [all in RESULTS]")] = "",
    seed: Annotated[int, typer.Option(help="Of Hugging Face's run.")] = 1,
    learning_rate: Annotated[float, typer.Option(help="Its peak.")] = 5e-5,
    epochs: Annotated[int | None, typer.Option(help="  [those of the recipe]")] = None,
    threads: Annotated[int | None, typer.Option(help="Of torch.  [all]")] = None,
    bf16: Annotated[bool, typer.Option(help="Train under bf16 autocast.")] = False,
    also: Annotated[
        list[str] | None, typer.Option(help="NAME=FILE.spacy: score NAME's models on this too.")
    ] = None,
) -> None:
    """Train and convert what has not been, and print the table."""
    transformers.logging.set_verbosity_error()
    torch.set_num_threads(threads or torch.get_num_threads())
    chosen = names.split(",") if names else sorted(p.name for p in (results / "data").iterdir())
    extra = [(name, Path(file)) for name, _, file in (each.partition("=") for each in also or [])]
    rows: list[Result] = srsly.read_json(output)["rows"] if output.is_file() else []
    rows = [row for row in rows if row["experiment"].partition(" ")[0] not in chosen]
    for name in chosen:
        experiment = EXPERIMENTS[name]
        directory = results / "huggingface" / f"{name}-{seed}"
        task = make_task(experiment, encoder, results / "data" / name)
        train(task, experiment, encoder, directory, seed, learning_rate, epochs, bf16)
        sets = {split: results / "data" / name / f"{split}.spacy" for split in experiment.splits}
        for split, file in sets.items():
            rows += compare(task, experiment, directory, results, split, file)
        for file in (file for owner, file in extra if owner == name):
            rows += compare(task, experiment, directory, results, None, file)
    versions = {"torch": torch.__version__, "transformers": transformers.__version__}
    with replacing(output) as temporary:
        srsly.write_json(temporary, {**versions, "seed": seed, "rows": rows})
    print_table("Fine-tuning beside Hugging Face's classes, in percent", [short(r) for r in rows])


def short(row: Result) -> Result:
    """What the printed table has of a row."""
    return {
        "experiment": f"{row['experiment']}, {row['score']}",
        "spacy_bert": row["mean"],
        "±": row["deviation"],
        "Hugging Face": row["huggingface"],
        "converted": row["converted"],
        "same predictions": f"{row['same_predictions']:,} of {row['examples']:,}",
        "largest difference": f"{row['largest_difference']:.0e}",
    }


def make_task(experiment: Experiment, encoder: Path, data: Path) -> Task:
    """The task of an experiment, with the labels of its training set."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(encoder)
    return TASKS[experiment.component](tokenizer, read_docs(data / "train.spacy"))


def read_docs(file: Path) -> list[Doc]:
    """The annotated Docs of a file."""
    return list(DocBin().from_disk(file).get_docs(spacy.blank("en").vocab))


def train(
    task: Task,
    experiment: Experiment,
    encoder: Path,
    directory: Path,
    seed: int,
    learning_rate: float,
    epochs: int | None,
    bf16: bool,
) -> None:
    """Fine-tune, and save the model with the seconds that it took."""
    if directory.is_dir():
        return
    random.seed(seed)
    torch.manual_seed(seed)
    begin = time.perf_counter()
    docs = read_docs(
        directory.parents[1] / "data" / directory.name.rpartition("-")[0] / "train.spacy"
    )
    features = [feature for doc in docs for feature in task.encode(doc)]
    model = getattr(transformers, task.head).from_pretrained(encoder, **task.config())
    passes, size = epochs or experiment.epochs, experiment.batch_size
    seconds = run_epochs(model, task, features, passes, size, learning_rate, bf16)
    with replacing_directory(directory) as temporary:
        model.save_pretrained(temporary)
        task.tokenizer.save_pretrained(temporary)
        record = {
            "seconds": time.perf_counter() - begin,
            "training_seconds": seconds,
            "threads": torch.get_num_threads(),
            "epochs": passes,
            "batch_size": size,
            "examples": len(features),
            "bf16": bf16,
        }
        srsly.write_json(temporary / "run.json", record)


def run_epochs(
    model: Any,
    task: Task,
    features: list[Feature],
    epochs: int,
    size: int,
    learning_rate: float,
    bf16: bool,
) -> float:
    """The recipe of the paper; seconds."""
    named = list(model.named_parameters())
    groups = [
        {"params": [p for n, p in named if not n.endswith(WITHOUT_DECAY)], "weight_decay": DECAY},
        {"params": [p for n, p in named if n.endswith(WITHOUT_DECAY)], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=learning_rate, fused=True)
    steps = epochs * -(-len(features) // size)
    schedule = transformers.get_linear_schedule_with_warmup(optimizer, int(WARMUP * steps), steps)
    model.train()
    begin = time.perf_counter()
    with tqdm(total=steps, unit="step") as bar:
        for _ in range(epochs):
            random.shuffle(features)
            for batch in minibatch(features, size):
                with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
                    loss = model(**task.collate(batch)).loss
                loss.backward()
                torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP)
                optimizer.step()
                schedule.step()
                optimizer.zero_grad()
                bar.update()
    return time.perf_counter() - begin


def compare(
    task: Task,
    experiment: Experiment,
    directory: Path,
    results: Path,
    split: str | None,
    file: Path,
) -> Iterator[Result]:
    """A row for each figure of a set: ours, theirs, and theirs as a pipeline.

    Args:
        task: What is done.
        experiment: What is scored.
        directory: The fine-tuned model of Hugging Face's.
        results: What `reproduce` has written.
        split: The set's name; None if it is another one, that all figures are of.
        file: The set.
    """
    name = directory.name.rpartition("-")[0]
    nlp = spacy_bert.from_hf(directory, **windows(task))
    theirs, numbers = annotate(task, directory, nlp, file)
    ours = pipe(nlp, file)
    own = list(task.ours(nlp, [example.predicted for example in ours]))
    pairs = list(zip(ours, theirs, strict=True))
    same = [task.decision(a.predicted) == task.decision(b.predicted) for a, b in pairs]
    difference = max(
        float(np.abs(a - b).max(initial=0.0)) for a, b in zip(own, numbers, strict=True)
    )
    done = sorted((results / "metrics" / name).glob("pretrained-*.json"))
    metrics = [srsly.read_json(file) for file in done]
    models = [results / "training" / name / file.stem / "model-last" for file in done]
    record = srsly.read_json(directory / "run.json")
    for title, score in experiment.scores.items():
        if split not in (None, score.split):
            continue
        if split is None:
            found = [figure(spacy.load(model), file, score.key) for model in models]
        else:
            found = [each["figures"][title] for each in metrics]
        yield {
            "experiment": name if split is not None else f"{name} on {file.stem}",
            "score": title,
            "spacy_bert": found,
            "mean": statistics.mean(found) if found else None,
            "deviation": statistics.stdev(found) if len(found) > 1 else None,
            "huggingface": score_of(nlp, task, theirs, score.key),
            "converted": score_of(nlp, task, ours, score.key),
            "examples": len(same),
            "same_predictions": sum(same),
            "largest_difference": difference,
            "seconds": [each["seconds"] for each in metrics],
            "huggingface_seconds": record["seconds"],
            "epochs": record["epochs"],
        }


def windows(task: Task) -> dict[str, Any]:
    """How the pipeline is to cut texts, so that it reads what theirs reads."""
    return {"window": 384, "stride": 128} if task.component == "bert_span_qa" else {}


def pipe(nlp: Language, file: Path) -> list[Example]:
    """The examples of a file, run through a pipeline."""
    examples = list(Corpus(file)(nlp))
    for example, doc in zip(
        examples, nlp.pipe([example.predicted for example in examples]), strict=True
    ):
        example.predicted = doc
    return examples


def annotate(
    task: Task, directory: Path, nlp: Language, file: Path
) -> tuple[list[Example], list[np.ndarray]]:
    """The examples of a file with the predictions of Hugging Face's model, and its numbers."""
    model = getattr(transformers, task.head).from_pretrained(directory).eval()
    examples = list(Corpus(file)(nlp))
    docs = [example.predicted for example in examples]
    with torch.inference_mode():
        numbers = list(tqdm(task.annotate(model, docs), total=len(docs), leave=False))
    return examples, numbers


def figure(nlp: Language, file: Path, key: str) -> float:
    """A figure of a pipeline of ours on another set."""
    component = next(name for name in nlp.pipe_names if name in TASKS)
    return score_by(nlp, component, pipe(nlp, file), key)


def score_of(nlp: Language, task: Task, examples: Sequence[Example], key: str) -> float:
    """A figure in percent, by our component's scorer."""
    return score_by(nlp, task.component, examples, key)


def score_by(nlp: Language, component: str, examples: Sequence[Example], key: str) -> float:
    """A figure in percent, by its dotted key."""
    pipe: Any = nlp.get_pipe(component)
    found: Any = pipe.score(examples)
    for part in key.split("."):
        found = found[part]
    return 100.0 * float(found)


if __name__ == "__main__":
    typer.run(main)
