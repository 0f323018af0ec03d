"""Commands from raw text to a pre-trained BERT: `train-tokenizer`, `prepare`, `pretrain`.

The library is imported inside the functions, so that `--help` answers at once.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from spacy_bert.cli.errors import one_line_errors

CorpusArgument = Annotated[
    Path,
    typer.Argument(
        help="Text file, or a directory of .txt files: one sentence a line, a blank line between "
        "documents."
    ),
]


def train_tokenizer(
    corpus: CorpusArgument,
    output: Annotated[Path, typer.Argument(help="Directory to write the tokenizer to.")],
    vocab_size: Annotated[int, typer.Option(help="Pieces, special ones included.")] = 30_000,
    cased: Annotated[bool, typer.Option("--cased", help="Keep case and accents.")] = False,
    min_frequency: Annotated[int, typer.Option(help="Least count of a pair to be merged.")] = 2,
) -> None:
    """Train a WordPiece vocabulary on a text corpus.

    Example: python -m spacy bert train-tokenizer corpus/corpus.txt tokenizer --vocab-size 8000
    """
    with one_line_errors():
        from spacy_bert.pretraining.corpus import TextCorpus
        from spacy_bert.wordpiece import WordPiece

        if next(iter(TextCorpus(corpus)), None) is None:
            raise ValueError(f"{corpus}: holds no text; expected one sentence a line")
        wordpiece = WordPiece.train(
            TextCorpus(corpus).sentences(),
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
    corpus: CorpusArgument,
    output: Annotated[Path, typer.Argument(help="Directory to write the shards to.")],
    tokenizer: Annotated[Path, typer.Option(help="Directory of the tokenizer.")],
    dev_share: Annotated[float, typer.Option(help="Share of the documents kept for dev.")] = 0.05,
) -> None:
    """Turn a text corpus into memory-mapped shards of pieces, split into train and dev.

    Example: python -m spacy bert prepare corpus/corpus.txt shards --tokenizer tokenizer
    """
    with one_line_errors():
        from spacy_bert.pretraining.corpus import TextCorpus
        from spacy_bert.pretraining.shards import write_shards
        from spacy_bert.wordpiece import WordPiece

        counts = write_shards(
            TextCorpus(corpus), output, WordPiece.load(tokenizer), dev_share=dev_share
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
) -> None:
    """Pre-train BERT as a config file says.

    Any field of the config can be overridden: --section.field VALUE. OUTPUT/model-last is a Hugging
    Face directory, saved at every evaluation and on Ctrl-C.

    Example: python -m spacy bert pretrain configs/pretrain_tiny.cfg pretrained --training.steps 500
    """
    with one_line_errors():
        from spacy_bert.pretraining.config import PretrainConfig, parse_overrides
        from spacy_bert.pretraining.engine import pretrain as run

        metrics = run(
            PretrainConfig.load(config, parse_overrides(context.args)), output, overwrite=overwrite
        )
    typer.echo(
        f"dev MLM loss {metrics['dev_mlm_loss']:.3f} nats (unigrams "
        f"{metrics['unigram_cross_entropy']:.3f}), {metrics['pieces_per_second']:,.0f} pieces/s"
    )
    typer.echo(f"next sentence accuracy on {metrics['nsp_pairs']:,} balanced, uncut dev pairs:")
    for name, accuracy in {"BERT": metrics["nsp_accuracy"], **metrics["nsp_baselines"]}.items():
        typer.echo(f"  {name.replace('_', ' '):<24} {accuracy:.3f}")
