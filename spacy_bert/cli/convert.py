"""The command `convert`: any BERT becomes a Hugging Face directory, or a file of weights."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from spacy_bert.cli.errors import one_line_errors


def convert(
    source: Annotated[
        str,
        typer.Argument(
            help="Directory of a checkpoint (Google's TensorFlow form or Hugging Face's), hub id, "
            "directory of a saved spaCy pipeline, or file of weights that `spacy pretrain` wrote."
        ),
    ],
    output: Annotated[
        Path,
        typer.Argument(
            help="Directory to write; or, if its name ends in .bin, file of weights for "
            "--paths.init_tok2vec."
        ),
    ],
    cased: Annotated[
        bool | None,
        typer.Option(
            "--cased/--uncased",
            help="Whether case matters, if the tokenizer's files do not say so. Without them, a "
            "vocabulary with capital letters is cased.",
            show_default=False,
        ),
    ] = None,
    component: Annotated[
        str | None,
        typer.Option(help="Component whose encoder is meant, if a pipeline has several."),
    ] = None,
    bf16: Annotated[
        bool, typer.Option("--bf16", help="Weights of 16 bits: half the size, a little rounded.")
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace what stands at OUTPUT.")
    ] = False,
) -> None:
    """Turn a BERT checkpoint, or the encoder of a pipeline, into a Hugging Face directory.

    Reads bert_model.ckpt, pytorch_model.bin and safetensors, in shards too; writes config.json,
    model.safetensors, vocab.txt, tokenizer.json and tokenizer_config.json.

    Example: python -m spacy bert convert uncased_L-12_H-768_A-12 bert-base

    What `spacy pretrain` wrote: python -m spacy bert convert model-last.bin bert-base; and back:
    python -m spacy bert convert bert-base weights.bin
    """
    with one_line_errors():
        from spacy_bert.models.conversion import convert as run

        done = run(source, output, cased=cased, component=component, bf16=bf16, overwrite=overwrite)
    config = done.config
    typer.echo(
        f"{output}: {config.num_hidden_layers} layers, hidden size {config.hidden_size}, "
        f"{done.parameters:,} parameters"
    )
    if done.heads:
        typer.echo("with the heads of pre-training: masked language model, next sentence")
    else:
        pooler = "" if done.pooler else ", without pooler: the source has none"
        typer.echo(f"the encoder alone, without the heads of pre-training{pooler}")
    case = {True: ", cased", False: ", uncased", None: ""}[done.cased]
    typer.echo(f"{done.pieces:,} pieces{case}")
    echo_left_behind(done.left_behind)


def echo_left_behind(tensors: Sequence[str]) -> None:
    """Tell which tensors of a checkpoint have found no place, if any."""
    if tensors:
        more = len(tensors) - 6
        names = ", ".join(tensors[:6]) + (f" and {more} more" if more > 0 else "")
        typer.echo(f"left behind: {names}")
