"""Words a second, latency and memory of ours beside every other way, in one run.

    python benchmarks/inference.py --encoder DIR --set sentences=dev.spacy:1024 \
        --set paragraphs=wikipedia.txt:500 --output inference.json

A set is a `.spacy` file or one with a text a line, and how many of it are read. All ways take
turns, round after round, for each number of threads; medians and ratios are printed and written,
beside the floor: what the matrix products alone would take at the speed that this machine
multiplies at. Peaks of memory are of processes of their own (Linux). A busy machine is refused.

On a GPU, to which all ways then go: `--gpu-id 0 --threads 1 --no-memory`.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import altair as alt
import numpy as np
import spacy
import srsly
import torch
import transformers
import typer
from inference_systems import CUTS_OFF, GIVEN, OURS, STOCK, pipelines, read_texts, systems
from memory import status
from spacy.language import Language
from thinc.api import require_gpu
from torch import nn

from spacy_bert.bert import BertConfig, load_config
from spacy_bert.bert.fused import FusedLinear, can_fuse
from spacy_bert.cli.report import print_table
from spacy_bert.files import replacing
from spacy_bert.wordpiece import WordPiece

IDLE = 0.3  # load of the machine up to which figures mean something
CLOSE = {"cpu": 1e-5, "cuda": 1e-4}  # of fp32
WARM = 64  # texts
CALLS = 200
LATENCY_WORDS = 25
Result = dict[str, Any]
Run = Callable[[], object]


def main(
    encoder: Annotated[str, typer.Option(help="BERT checkpoint directory.")],
    sets: Annotated[list[str], typer.Option("--set", help="NAME=FILE or NAME=FILE:COUNT.")],
    rounds: Annotated[int, typer.Option(help="How often each way runs.")] = 5,
    threads: Annotated[str, typer.Option(help="Of torch, with commas.")] = "1,2",
    output: Annotated[Path, typer.Option(help="JSON; a chart beside it.")] = Path("inference.json"),
    memory: Annotated[bool, typer.Option(help="Measure peaks too.")] = True,
    busy: Annotated[bool, typer.Option("--busy", help="Run on a busy machine too.")] = False,
    gpu_id: Annotated[int, typer.Option(help="GPU; -1: CPU.")] = -1,
    memory_of: Annotated[str, typer.Option(hidden=True)] = "",
) -> None:
    """Measure and print."""
    transformers.logging.set_verbosity_error()
    device = torch.device("cpu")
    if gpu_id >= 0:
        require_gpu(gpu_id)
        device = torch.device("cuda", gpu_id)
    texts = {name: read_texts(*_file(rest)) for name, rest in map(_named, sets)}
    if memory_of:
        first = next(iter(texts.values()))
        sys.stdout.write(f"\n{measure_memory(memory_of, encoder, device, first)}\n")
        return
    load = os.getloadavg()[0]
    if load > IDLE and not busy:
        raise SystemExit(f"the machine is busy (load {load:.2f}): wait until it is below {IDLE}")
    ways = systems(encoder, device)
    results: Result = {
        "load": load,
        "device": torch.cuda.get_device_name(device) if gpu_id >= 0 else "cpu",
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "error": largest_error(ways, next(iter(texts.values()))[:WARM], CLOSE[device.type]),
        "encoders": [],
        "pipelines": [],
        "latency": [],
    }
    wordpiece, config = WordPiece.load(Path(encoder)), load_config(encoder)
    for count in map(int, threads.split(",")):
        torch.set_num_threads(count)
        speed = gflops(config, device)
        for name, these in texts.items():
            words, pieces = count_words(these), [len(p) + 2 for p in wordpiece.encode_ids(these)]
            floor = flops(config, pieces) / speed / 1e9
            fitting = {
                way: partial(read, run, these)
                for way, run in ways.items()
                if way not in CUTS_OFF or max(pieces) <= config.max_position_embeddings
            }
            for run in ways.values():
                read(run, these[:WARM])
            rows = compare(fitting, rounds, words, STOCK)
            about = {"texts": len(these), "pieces": sum(pieces), "gflops": round(speed, 1)}
            results["encoders"] += [
                {"set": name, "threads": count, **row, "floor_seconds": round(floor, 3), **about}
                for row in rows
            ]
        sentences = next(iter(texts.values()))
        results["pipelines"] += measure_pipelines(encoder, device, sentences, rounds, count)
        results["latency"] += measure_latency(encoder, device, sentences, count)
    if memory:
        results["peak_over_idle_mb"] = peaks(ways)
    with replacing(output) as temporary:
        srsly.write_json(temporary, results)
    draw(results["encoders"]).save(output.with_suffix(".svg"))
    numbers = ("words_a_second", "ratio", "ratio_of_rounds", "floor_seconds", "median")
    shown = ("set", "threads", "way", *numbers)
    print_table(
        f"The encoder alone; times {STOCK}",
        [{key: row[key] for key in shown} for row in results["encoders"]],
    )
    print_table("Encoder, entities and classes", [_short(row) for row in results["pipelines"]])
    print_table("One sentence through nlp(text), entities", results["latency"])
    if memory:
        print_table("Peak over idle, MB", [results["peak_over_idle_mb"]])


def _named(given: str) -> tuple[str, str]:
    name, _, rest = given.partition("=")
    if not rest:
        raise typer.BadParameter(f"--set {given}: write NAME=FILE or NAME=FILE:COUNT")
    return name, rest


def _file(given: str) -> tuple[Path, int]:
    path, _, count = given.rpartition(":")
    return (Path(path), int(count)) if path and count.isdigit() else (Path(given), sys.maxsize)


def _short(row: Result) -> Result:
    return {key: value for key, value in row.items() if key != "seconds"}


def read(run: Callable[[Sequence[str]], Iterable[object]], texts: Sequence[str]) -> None:
    """Take everything that is said of the texts, and let it go."""
    for _ in run(texts):
        pass


def count_words(texts: Sequence[str]) -> int:
    """Tokens of spaCy's."""
    return sum(len(doc) for doc in spacy.blank("en").pipe(texts))


def compare(ways: Mapping[str, Run], rounds: int, words: int, peer: str) -> list[Result]:
    """Medians of alternating rounds, and how many times as fast as a peer each is.

    `ratio` is that of the medians, `ratio_of_rounds` the median of each round's ratio.
    """
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(rounds):
        for way, run in ways.items():
            begin = time.perf_counter()
            run()
            seconds[way].append(time.perf_counter() - begin)
    medians = {way: statistics.median(taken) for way, taken in seconds.items()}
    return [
        {
            "way": way,
            "words_a_second": round(words / medians[way]),
            "ratio": round(medians[peer] / medians[way], 2),
            "ratio_of_rounds": round(
                statistics.median(
                    other / own for other, own in zip(seconds[peer], seconds[way], strict=True)
                ),
                2,
            ),
            "median": round(medians[way], 3),
            "seconds": [round(second, 3) for second in seconds[way]],
        }
        for way in ways
    ]


def largest_error(ways: dict[str, Any], texts: Sequence[str], close: float) -> Result:
    """How far ours are from Hugging Face's vectors, the largest and the mean.

    Texts that Hugging Face cuts into other pieces, as it knows no spaCy tokens, do not count.

    Raises:
        ValueError: If fp32 is not the same up to rounding.
    """
    theirs = list(ways[GIVEN](texts))
    found: Result = {}
    for way in (way for way in ways if way.startswith(OURS)):
        pairs = [
            np.abs(one - other)
            for one, other in zip(ways[way](texts), theirs, strict=True)
            if one.shape == other.shape
        ]
        found[way] = {
            "largest": float(max(each.max() for each in pairs)),
            "mean": float(np.mean([each.mean() for each in pairs])),
            "texts": len(pairs),
        }
    if found[f"{OURS}, fp32"]["largest"] > close:
        raise ValueError(f"fp32 is not what Hugging Face's BertModel gives: {found}")
    return found


def flops(config: BertConfig, lengths: Sequence[int]) -> float:
    """Of all the matrix products of texts of these many pieces: the layers' own and attention's."""
    hidden, inner = config.hidden_size, config.intermediate_size
    linear = 8.0 * hidden * hidden + 4.0 * hidden * inner
    window = config.max_position_embeddings
    attended = sum(n * min(n, window) for n in lengths)
    return config.num_hidden_layers * (linear * sum(lengths) + 4.0 * hidden * attended)


@torch.inference_mode()
def gflops(config: BertConfig, device: torch.device, rows: int = 2048, tries: int = 20) -> float:
    """How fast this machine multiplies what a layer multiplies, in fp32: the best of some tries.

    Torch's own products and those with weights laid out before; the faster ones count.
    """
    hidden, inner = config.hidden_size, config.intermediate_size
    shapes = [(hidden, 3 * hidden), (hidden, hidden), (hidden, inner), (inner, hidden)]
    inputs = [torch.randn(rows, i, device=device) for i, _ in shapes]
    plain = [nn.Linear(i, o, device=device) for i, o in shapes]
    kinds: list[Sequence[nn.Module]] = [plain]
    if can_fuse(inputs[0]):
        kinds.append([FusedLinear(linear) for linear in plain])
    taken = []
    for products in kinds * tries:
        begin = time.perf_counter()
        for product, x in zip(products, inputs, strict=True):
            product(x)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        taken.append(time.perf_counter() - begin)
    return sum(2.0 * rows * i * o for i, o in shapes) / min(taken) / 1e9


def measure_pipelines(
    encoder: str, device: torch.device, texts: Sequence[str], rounds: int, threads: int
) -> list[Result]:
    """Words a second with entities and classes."""
    runs: dict[str, Run] = {}
    for name, nlp in pipelines(encoder, device, textcat=True).items():
        read(nlp.pipe, texts[:WARM])
        runs[name] = partial(read, nlp.pipe, texts)
    rows = compare(runs, rounds, count_words(texts), STOCK)
    return [{"threads": threads, **row} for row in rows]


def measure_latency(
    encoder: str, device: torch.device, texts: Sequence[str], threads: int
) -> list[Result]:
    """Milliseconds of `nlp(text)` with entities, of a text of some 25 tokens."""
    tokenizer = spacy.blank("en").tokenizer
    text = min(texts, key=lambda each: abs(len(tokenizer(each)) - LATENCY_WORDS))
    models: dict[str, Language] = pipelines(encoder, device, textcat=False)
    taken: dict[str, list[float]] = {name: [] for name in models}
    for call in range(CALLS + 20):
        for name, nlp in models.items():
            begin = time.perf_counter()
            nlp(text)
            if call >= 20:  # the first ones warm up
                taken[name].append(1000 * (time.perf_counter() - begin))
    medians = {name: statistics.median(each) for name, each in taken.items()}
    return [
        {
            "threads": threads,
            "way": name,
            "tokens": len(tokenizer(text)),
            "median_ms": round(medians[name], 2),
            "p95_ms": round(float(np.percentile(taken[name], 95)), 2),
            "times_stock": round(medians[name] / medians[STOCK], 3),
        }
        for name in models
    ]


def measure_memory(way: str, encoder: str, device: torch.device, texts: Sequence[str]) -> float:
    """The peak of this process over what it holds when some texts have been read, in MB."""
    run = systems(encoder, device)[way]
    read(run, texts[:WARM])
    idle = dict(status())["VmRSS"]
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts from here
    read(run, texts)
    return dict(status())["VmHWM"] - idle


def peaks(ways: Iterable[str]) -> dict[str, int]:
    """Peaks of all ways on the first set, in MB."""
    found = {}
    for way in ways:
        command = [sys.executable, __file__, *sys.argv[1:], "--memory-of", way]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        found[way] = round(float(done.stdout.splitlines()[-1]))
    return found


def draw(rows: list[Result]) -> Any:
    """Words a second as bars, a row of them for each set and number of threads."""
    values = [
        {**row, "which": f"{row['set']}, threads: {row['threads']}", "label": f"{row['ratio']} x"}
        for row in rows
    ]
    base = alt.Chart(alt.Data(values=values)).encode(
        x=alt.X("words_a_second:Q", title="words a second"),
        y=alt.Y("way:N", title=None, sort=None),
    )
    labels = base.mark_text(align="left", dx=3).encode(text="label:N")
    return (
        (base.mark_bar() + labels)
        .properties(width=420)
        .facet(row=alt.Row("which:N", title=None, sort=None))
        .resolve_scale(x="independent")
    )


if __name__ == "__main__":
    typer.run(main)
