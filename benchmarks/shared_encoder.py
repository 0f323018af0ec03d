"""One encoder shared by four components, trained with `spacy train` on UD English EWT.

    python benchmarks/shared_encoder.py --data DIR --encoder DIR --output result.json

`DIR` has en_ewt-ud-train.conllu and en_ewt-ud-dev.conllu (or .gz). One sentence is one Doc. Tags
and trees are the treebank's. The other labels are derived from it, and no more than a test of the
machinery: the class is the genre that the sentence's id begins with (answers, email, newsgroup,
reviews, weblog), an entity is a run of proper nouns (NAME) or of numerals (NUMBER).

Scores are those of `spacy evaluate` on dev, spaCy's own tokenizer included. Then the pipeline is
saved and loaded, sent through bytes, and packaged, installed and loaded by name: the predictions
must stay the same. Prints one JSON line, and exits with 1 if they do not.
"""

from __future__ import annotations

import argparse
import gzip
import itertools
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import spacy
from spacy.cli.evaluate import evaluate
from spacy.cli.package import has_build, has_wheel, package
from spacy.cli.train import train
from spacy.language import Language
from spacy.tokens import Doc, DocBin, Span
from spacy.training.converters.conllu_to_docs import conllu_to_docs

WARMUP = 0.1
CHECKED_DOCS = 300  # whose predictions are compared
SCORES = ("token_acc", "tag_acc", "dep_uas", "dep_las", "sents_f", "ents_f", "cats_macro_f")

Prediction = dict[str, Any]


def read_conllu(data: Path, split: str) -> str:
    """The text of a split, compressed or not.

    Raises:
        FileNotFoundError: names the file.
    """
    file = data / f"en_ewt-ud-{split}.conllu"
    packed = file.with_name(f"{file.name}.gz")
    if packed.is_file():
        with gzip.open(packed, "rt", encoding="utf8") as lines:
            return lines.read()
    return file.read_text(encoding="utf8")


def sentences(text: str) -> Iterator[Doc]:
    """One Doc for each sentence of a CoNLL-U text, with derived classes and entities."""
    ids = [line for line in text.splitlines() if line.startswith("# sent_id = ")]
    genres = [line.removeprefix("# sent_id = ").partition("-")[0] for line in ids]
    docs = conllu_to_docs(text, n_sents=1, no_print=True)
    for doc, genre in zip(docs, genres, strict=True):
        doc.cats = {name: float(name == genre) for name in sorted(set(genres))}
        doc.ents = list(runs(doc, {"PROPN": "NAME", "NUM": "NUMBER"}))
        yield doc


def runs(doc: Doc, labels: dict[str, str]) -> Iterator[Span]:
    """Runs of tokens with the same part of speech, if it has a label."""
    for pos, tokens in itertools.groupby(doc, key=lambda token: token.pos_):
        if pos in labels:
            numbers = [token.i for token in tokens]
            yield Span(doc, numbers[0], numbers[-1] + 1, label=labels[pos])


def write_data(data: Path, folder: Path, limit: int) -> dict[str, int]:
    """Write train.spacy, at most `limit` sentences, and dev.spacy; both shuffled."""
    sizes = {}
    for split in ("train", "dev"):
        docs = list(sentences(read_conllu(data, split)))
        random.Random(0).shuffle(docs)  # in the files, each genre is a block
        if split == "train":
            docs = docs[: limit or None]
        DocBin(docs=docs, store_user_data=False).to_disk(folder / f"{split}.spacy")
        sizes[split] = len(docs)
    return sizes


def predictions(nlp: Language, texts: list[str]) -> list[Prediction]:
    """All that the four components say, as plain data."""
    return [
        {
            "tags": [token.tag_ for token in doc],
            "heads": [token.head.i for token in doc],
            "deps": [token.dep_ for token in doc],
            "ents": [(ent.start, ent.end, ent.label_) for ent in doc.ents],
            "scores": list(map(float, doc.spans["ents"].attrs["scores"])),
            "cats": doc.cats,
        }
        for doc in nlp.pipe(texts)
    ]


def install(model: Path, folder: Path) -> tuple[str, Path]:
    """Package a pipeline and install it; its name, and the folder to import it from."""
    built, site = folder / "built", folder / "site"
    built.mkdir()
    wheel = has_build() or has_wheel()
    package(model, built, name="shared_encoder", create_sdist=not wheel, create_wheel=wheel)
    (archive,) = built.glob("*/dist/*")
    # Whatever it needs is here already, and nothing is asked of an index.
    options = ["--no-deps", "--no-index", "--no-build-isolation", "--quiet", "--target", str(site)]
    subprocess.run([sys.executable, "-m", "pip", "install", *options, str(archive)], check=True)
    return "en_shared_encoder", site


def predictions_of_package(name: str, site: Path, texts: list[str]) -> list[Prediction]:
    """What an installed pipeline says, in a process of its own."""
    search = os.pathsep.join([str(site), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, __file__, "--predict-with", name],
        input=json.dumps(texts),
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": search},
    )
    said: list[Prediction] = json.loads(done.stdout)
    return said


def check_same_predictions(model: Path, dev: Path, folder: Path) -> dict[str, bool]:
    """Whether predictions are the same after each way of saving and loading."""
    nlp = spacy.load(model)
    docs = itertools.islice(DocBin().from_disk(dev).get_docs(nlp.vocab), CHECKED_DOCS)
    texts = [doc.text for doc in docs]

    def plain(said: list[Prediction]) -> object:
        return json.loads(json.dumps(said))  # tuples are lists there

    expected = plain(predictions(nlp, texts))
    nlp.to_disk(folder / "again")
    again = spacy.load(folder / "again")
    from_bytes = spacy.util.load_model_from_config(nlp.config, auto_fill=True)
    from_bytes.from_bytes(nlp.to_bytes())
    installed = predictions_of_package(*install(model, folder), texts)
    return {
        "to_disk": plain(predictions(again, texts)) == expected,
        "to_bytes": plain(predictions(from_bytes, texts)) == expected,
        "package": installed == expected,
    }


def run(args: argparse.Namespace, folder: Path) -> dict[str, object]:
    """Train, score and check; everything that is written stays in `folder`."""
    sizes = write_data(args.data, folder, args.limit)
    started = time.perf_counter()
    train(
        Path(__file__).with_suffix(".cfg"),
        folder / "model",
        overrides={
            "paths.encoder": str(args.encoder),
            "paths.train": str(folder / "train.spacy"),
            "paths.dev": str(folder / "dev.spacy"),
            "training.seed": args.seed,
            "training.max_steps": args.steps,
            "training.eval_frequency": max(args.steps // 2, 1),
            "training.optimizer.learn_rate.warmup_steps": int(WARMUP * args.steps),
            "training.optimizer.learn_rate.total_steps": args.steps,
        },
    )
    seconds = time.perf_counter() - started
    model, dev = folder / "model" / "model-last", folder / "dev.spacy"
    scores = evaluate(str(model), dev, silent=True)
    return {
        "steps": args.steps,
        "seed": args.seed,
        "docs": sizes,
        **{name: round(scores[name], 4) for name in SCORES},
        "train_s": round(seconds, 1),
        "words_per_s": round(scores["speed"]),
        "same_predictions_after": check_same_predictions(model, dev, folder),
    }


def main() -> None:
    """Read the command line, print one JSON line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--data", type=Path, help="folder with the treebank")
    parser.add_argument("--encoder", type=Path, help="BERT checkpoint directory")
    parser.add_argument("--steps", type=int, default=250, help="batches of 32 sentences")
    parser.add_argument("--limit", type=int, default=3000, help="training sentences; 0 for all")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", type=Path, help="keep data and models in this new folder")
    parser.add_argument("--output", type=Path, help="also write the result to this JSON file")
    parser.add_argument("--predict-with", metavar="NAME", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.predict_with is not None:
        said = predictions(spacy.load(args.predict_with), json.load(sys.stdin))
        sys.stdout.write(json.dumps(said))
        return
    if args.data is None or args.encoder is None:
        parser.error("--data and --encoder are needed")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) if args.keep is None else args.keep
        folder.mkdir(parents=True, exist_ok=args.keep is None)
        result = run(args, folder)
    sys.stdout.write(json.dumps(result) + "\n")
    if args.output is not None:
        args.output.write_text(json.dumps(result, indent=2) + "\n", encoding="utf8")
    same = result["same_predictions_after"]
    assert isinstance(same, dict)
    sys.exit(0 if all(same.values()) else 1)


if __name__ == "__main__":
    main()
