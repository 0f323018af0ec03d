"""Commands from raw text to a pre-trained BERT: `train-tokenizer`, `prepare`, `pretrain`.

The library is imported inside the functions, so that `--help` answers at once.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from spacy_bert.cli.errors import one_line_errors
from spacy_bert.cli.stopping import stoppable

FieldOption = Annotated[str, typer.Option(help="Where the text stands in .jsonl.")]


def train_tokenizer(
    corpus: Annotated[
        Path, typer.Argument(help="Text file or directory: .txt or .jsonl, also .gz.")
    ],
    output: Annotated[Path, typer.Argument(help="Directory to write the tokenizer to.")],
    vocab_size: Annotated[int, typer.Option(help="Pieces, special ones included.")] = 30_000,
    cased: Annotated[bool, typer.Option("--cased", help="Keep case and accents.")] = False,
    min_frequency: Annotated[
        int, typer.Option(min=0, help="Least count of a pair to be merged.")
    ] = 2,
    field: FieldOption = "text",
    overwrite: Annotated[
        bool,
        typer.Option("--overwrite", help="Replace a tokenizer in OUTPUT, but never a model's."),
    ] = False,
) -> None:
    """Train a WordPiece vocabulary on a text corpus.

    Example: python -m spacy bert train-tokenizer corpus/corpus.txt tokenizer --vocab-size 8000
    """
    with one_line_errors():
        from spacy_bert.outputs import refuse_tokenizer_output
        from spacy_bert.pretraining.corpus import TextCorpus
        from spacy_bert.wordpiece import WordPiece

        refuse_tokenizer_output(output, overwrite=overwrite)
        texts = TextCorpus(corpus, field=field)
        wordpiece = WordPiece.train(
            texts.sentences(),
            vocab_size=vocab_size,
            lowercase=not cased,
            min_frequency=min_frequency,
        )
        wordpiece.save(output)
    typer.echo(f"{output}: {len(wordpiece):,} pieces, {'cased' if cased else 'uncased'}")
    if len(wordpiece) < vocab_size:
        typer.echo(
            f"(fewer than {vocab_size:,}: no other pair of pieces is seen {min_frequency} times)"
        )


def prepare(
    corpus: Annotated[
        Path,
        typer.Argument(
            help="Text file or directory: .txt (blank lines between documents) or .jsonl, also .gz."
        ),
    ],
    output: Annotated[Path, typer.Argument(help="Directory to write the shards to.")],
    tokenizer: Annotated[Path, typer.Option(help="Directory of the tokenizer.")],
    dev_share: Annotated[float, typer.Option(help="Share of the documents kept for dev.")] = 0.05,
    splitter: Annotated[
        str,
        typer.Option(
            help='What cuts documents into sentences: "lines", spaCy\'s rules ("sentencizer"), or '
            "a spaCy pipeline with a senter or parser."
        ),
    ] = "lines",
    lang: Annotated[str, typer.Option(help='Language of "sentencizer".')] = "en",
    field: FieldOption = "text",
    min_characters: Annotated[int, typer.Option(help="Leave out shorter documents.")] = 1,
    workers: Annotated[int, typer.Option(help="Processes; 0 takes all cores.")] = 1,
    overwrite: Annotated[
        bool,
        typer.Option(
            "--overwrite", help="Replace shards of other inputs, finished or not, in OUTPUT."
        ),
    ] = False,
) -> None:
    """Turn a text corpus into memory-mapped shards of pieces, split into train and dev.

    Of any size, in constant memory. The same command goes on with a run that was broken off, and
    leaves finished shards of the same corpus, tokenizer and settings as they are.

    Example: python -m spacy bert prepare corpus/corpus.txt shards --tokenizer tokenizer

    Example: python -m spacy bert prepare wiki.jsonl.gz shards --tokenizer tokenizer --splitter
    sentencizer --workers 0
    """
    with stoppable("the same command goes on from there"), one_line_errors():
        from tqdm import tqdm

        from spacy_bert.pretraining.building import write_shards
        from spacy_bert.pretraining.corpus import Splitter, TextCorpus
        from spacy_bert.wordpiece import WordPiece

        cut: Splitter | None = None
        if splitter != "lines":
            try:
                from spacy_bert.datasets.sentences import SpacySplitter
            except ImportError:
                raise ValueError(
                    f"--splitter {splitter} needs spaCy, which is not installed; use lines"
                ) from None
            cut = SpacySplitter(splitter, lang=lang)
        texts = TextCorpus(corpus, field=field, splitter=cut, min_characters=min_characters)
        with tqdm(unit="document", disable=None, dynamic_ncols=True) as bar:
            counts = write_shards(
                texts,
                output,
                WordPiece.load(tokenizer),
                dev_share=dev_share,
                workers=workers,
                overwrite=overwrite,
                progress=bar.update,
                say=bar.write,
            )
    for split, part in counts.items():
        typer.echo(
            f"{split:>5}: {part.documents:,} documents, {part.sentences:,} sentences, "
            f"{part.pieces:,} pieces"
        )


def pretrain(
    context: typer.Context,
    config: Annotated[Path, typer.Argument(help="Config file.")],
    output: Annotated[Path, typer.Argument(help="Directory for checkpoints, log and metrics.")],
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Delete an earlier run in OUTPUT.")
    ] = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on from the newest checkpoint in OUTPUT, if any.")
    ] = False,
) -> None:
    """Pre-train BERT as a config file says.

    Any field of the config can be overridden: --section.field VALUE. OUTPUT/model-last is a Hugging
    Face directory. Checkpoints are written at every evaluation, on Ctrl-C and on SIGTERM.

    Example: python -m spacy bert pretrain configs/pretrain_tiny.cfg pretrained --training.steps 500

    On several GPUs: torchrun --nproc-per-node 8 -m spacy_bert pretrain pretrain.cfg output
    """
    with one_line_errors():
        from spacy_bert.pretraining.config import PretrainConfig, parse_overrides
        from spacy_bert.pretraining.engine import pretrain as run

        if overwrite and resume:
            raise ValueError(
                "--resume goes on with an earlier run, --overwrite deletes it: give one of them"
            )
        metrics = run(
            PretrainConfig.load(config, parse_overrides(context.args)),
            output,
            overwrite=overwrite,
            resume=resume,
        )
    if not metrics:
        return  # not the process that speaks
    speed = metrics["pieces_per_second"] or 0.0
    typer.echo(
        f"dev MLM loss {metrics['dev_mlm_loss']:.3f} nats (unigrams "
        f"{metrics['unigram_cross_entropy']:.3f}), {speed:,.0f} pieces/s"
    )
    if "nsp_accuracy" in metrics:
        typer.echo(f"next sentence accuracy on {metrics['nsp_pairs']:,} balanced, uncut dev pairs:")
        accuracies = {"BERT": metrics["nsp_accuracy"], **metrics["nsp_baselines"]}
        for name, accuracy in accuracies.items():
            typer.echo(f"  {name.replace('_', ' '):<24} {accuracy:.3f}")
