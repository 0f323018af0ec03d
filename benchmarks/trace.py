"""`spacy_bert.trace` beside Hugging Face's BertModel: seconds and peak memory, in one run.

    python benchmarks/trace.py --encoder DIR --texts sentences.txt --output trace.json

Reads the first sentences of a file (one a line) and takes turns, round after round: hidden states
and attentions of every sentence (against BertModel with eager attention), hidden states alone
(against sdpa). Theirs reads batches of 32, padded, in the order given. All of a sentence is taken
and let go. Prints medians and ratios; peaks of memory are of processes of their own (Linux only).
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import spacy
import torch
import transformers
from memory import status
from spacy.language import Language
from transformers import AutoTokenizer, BertModel

import spacy_bert

BATCH = 32
PAIRS = {  # what is measured -> ours, theirs, the ratio aimed at
    "attentions": ("ours_attentions", "eager_attentions", 1.3),
    "hidden states": ("ours_hidden", "sdpa_hidden", 1.0),
}
System = Callable[[list[str]], int]


def build_nlp(encoder: str) -> Language:
    """A pipeline of the component "bert" alone."""
    nlp = spacy.blank("en")
    nlp.add_pipe("bert", config={"model": {"name": encoder}})
    nlp.initialize()
    return nlp


def ours(encoder: str, *, attention: bool) -> System:
    """Traces of the texts, from tokenizing on; gives the number of pieces."""
    nlp = build_nlp(encoder)

    def run(texts: list[str]) -> int:
        pieces = 0
        for trace in spacy_bert.trace(nlp, texts):
            if attention:
                assert trace.attention.shape[-1] == len(trace.pieces)
            pieces += trace.hidden.shape[1]
        return pieces

    return run


def theirs(encoder: str, *, attention: bool) -> System:
    """BertModel by padded batches, from tokenizing on; gives the number of pieces."""
    tokenizer = AutoTokenizer.from_pretrained(encoder)
    kind = "eager" if attention else "sdpa"
    model = BertModel.from_pretrained(encoder, attn_implementation=kind).eval()

    @torch.inference_mode()
    def run(texts: list[str]) -> int:
        pieces = 0
        for start in range(0, len(texts), BATCH):
            batch = texts[start : start + BATCH]
            encoded = tokenizer(batch, padding=True, truncation=True, return_tensors="pt")
            output = model(**encoded, output_hidden_states=True, output_attentions=attention)
            assert not attention or len(output.attentions) == len(output.hidden_states) - 1
            pieces += int(encoded.attention_mask.sum())
        return pieces

    return run


SYSTEMS: dict[str, Callable[[str], System]] = {
    "ours_attentions": lambda encoder: ours(encoder, attention=True),
    "eager_attentions": lambda encoder: theirs(encoder, attention=True),
    "ours_hidden": lambda encoder: ours(encoder, attention=False),
    "sdpa_hidden": lambda encoder: theirs(encoder, attention=False),
}


def read_texts(path: Path, count: int) -> list[str]:
    """The first lines of a file that are not blank.

    Raises:
        ValueError: If there are fewer.
    """
    lines = path.read_text(encoding="utf8").splitlines()
    texts = [line.strip() for line in lines if line.strip()][:count]
    if len(texts) < count:
        raise ValueError(f"{path} has {len(texts)} sentences, of {count}: give a smaller --count")
    return texts


def measure_times(
    systems: dict[str, System], texts: list[str], rounds: int
) -> dict[str, list[float]]:
    """Seconds of each system in each round, after a short one to warm up."""
    pieces = {name: run(texts[:BATCH]) for name, run in systems.items()}
    if len(set(pieces.values())) != 1:
        raise ValueError(f"the systems do not read the same pieces: {pieces}")
    seconds: dict[str, list[float]] = {name: [] for name in systems}
    for _ in range(rounds):
        for name, run in systems.items():
            begin = time.perf_counter()
            run(texts)
            seconds[name].append(time.perf_counter() - begin)
    return seconds


def measure_memory(name: str, encoder: str, texts: list[str]) -> float:
    """The peak of this process over what it holds when one batch has been read, in MB."""
    run = SYSTEMS[name](encoder)
    run(texts[:BATCH])
    idle = dict(status())["VmRSS"]
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts from here
    run(texts)
    return dict(status())["VmHWM"] - idle


def main() -> None:
    """Read the command line, print the medians, write the JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--encoder", required=True, help="BERT checkpoint directory or hub id")
    parser.add_argument("--texts", type=Path, required=True, help="sentences, one a line")
    parser.add_argument("--count", type=int, default=1000, help="how many of them (1000)")
    parser.add_argument("--rounds", type=int, default=5, help="how often each system runs (5)")
    parser.add_argument("--threads", type=int, help="of torch (all)")
    parser.add_argument("--skip-memory", action="store_true", help="measure seconds alone")
    parser.add_argument("--output", type=Path, help="also write the results to this JSON file")
    parser.add_argument("--memory-of", choices=SYSTEMS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    transformers.logging.set_verbosity_error()
    torch.set_num_threads(args.threads or torch.get_num_threads())
    texts = read_texts(args.texts, args.count)
    if args.memory_of:
        sys.stdout.write(f"\n{measure_memory(args.memory_of, args.encoder, texts)}\n")
        return
    systems = {name: build(args.encoder) for name, build in SYSTEMS.items()}
    seconds = measure_times(systems, texts, args.rounds)
    del systems
    peaks: dict[str, int] = {}
    for name in () if args.skip_memory else SYSTEMS:
        command = [sys.executable, __file__, *sys.argv[1:], "--memory-of", name]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        peaks[name] = round(float(done.stdout.splitlines()[-1]))
    medians = {name: statistics.median(taken) for name, taken in seconds.items()}
    ratios = {}
    for what, (mine, other, target) in PAIRS.items():
        ratio = round(medians[mine] / medians[other], 3)
        ratios[what] = {"ratio": ratio, "target": target}
        sys.stdout.write(
            f"{what}: {medians[mine]:.2f} s against {medians[other]:.2f} s, {ratio} x "
            f"(target {target} x)\n"
        )
    for name, peak in peaks.items():
        sys.stdout.write(f"{name}: {peak} MB over idle at its peak\n")
    results = {
        "sentences": len(texts),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "seconds": seconds,
        "median_seconds": medians,
        "peak_over_idle_mb": peaks,
        "ratios": ratios,
    }
    if args.output is not None:
        args.output.write_text(json.dumps(results, indent=2) + "\n", encoding="utf8")


if __name__ == "__main__":
    main()
