"""What bf16 and int8 cost: the scores of fine-tuned pipelines in each precision of this CPU.

    python benchmarks/precision.py --set model/model-last=test.spacy:ents_f --output precision.json

Each pipeline is loaded once for every precision and scored by its own scorers on the same Docs.
Prints the score in percent, the difference from fp32 in points, and the words a second of the
evaluation (tokenizing left out; of one run, so a hint only).
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any

import spacy
import srsly
import torch
import typer
from spacy.training import Corpus

from spacy_bert.bert.precision import has_bf16, has_int8
from spacy_bert.cli.report import print_table
from spacy_bert.files import replacing

CPU = torch.device("cpu")
PRECISION = "components.{}.model.precision"
Result = dict[str, Any]


def main(
    sets: Annotated[list[str], typer.Option("--set", help="PIPELINE=FILE.spacy:SCORE.")],
    encoder: Annotated[str, typer.Option(help="Name of the encoder's component.")] = "bert",
    output: Annotated[Path, typer.Option(help="JSON.")] = Path("precision.json"),
) -> None:
    """Measure and print."""
    precisions = ["fp32", *(["bf16"] if has_bf16(CPU) else []), *(["int8"] if has_int8() else [])]
    results: list[Result] = []
    for pipeline, file, score in map(read, sets):
        plain = None
        for precision in precisions:
            row = measure(pipeline, file, score, {PRECISION.format(encoder): precision})
            plain = row["score"] if plain is None else plain
            results.append(
                {
                    "pipeline": pipeline,
                    "data": str(file),
                    "metric": score,
                    "precision": precision,
                    **row,
                    "points": row["score"] - plain,
                }
            )
    with replacing(output) as temporary:
        srsly.write_json(temporary, {"torch": torch.__version__, "scores": results})
    exact = ("score", "points")
    print_table(
        "What fewer bits cost",
        [{**row, **{name: f"{row[name]:.2f}" for name in exact}} for row in results],
    )


def read(argument: str) -> tuple[str, Path, str]:
    """PIPELINE=FILE:SCORE in its parts."""
    pipeline, _, rest = argument.partition("=")
    file, _, score = rest.rpartition(":")
    if not (pipeline and file and score):
        raise SystemExit(f"{argument!r}: give PIPELINE=FILE.spacy:SCORE")
    return pipeline, Path(file), score


def measure(pipeline: str, file: Path, score: str, config: dict[str, Any]) -> Result:
    """A pipeline's score in percent, and how fast it was found."""
    nlp = spacy.load(pipeline, config=config)
    examples = list(Corpus(file)(nlp))
    words = sum(len(example.predicted) for example in examples)
    start = time.perf_counter()
    found = nlp.evaluate(examples)
    seconds = time.perf_counter() - start
    if not isinstance(found.get(score), float):
        numbers = [name for name, value in found.items() if isinstance(value, float)]
        raise SystemExit(f"{pipeline} has no score {score!r} on {file}: {', '.join(numbers)}")
    return {"score": 100 * found[score], "words a second": words / seconds}


if __name__ == "__main__":
    typer.run(main)
