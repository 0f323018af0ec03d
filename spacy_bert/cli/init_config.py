"""The command `init-config`: a complete training config for a pipeline around a BERT."""

from __future__ import annotations

import shlex
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from spacy_bert.cli.errors import one_line_errors


class Mode(str, Enum):
    """What `bert_textcat` finds."""

    exclusive = "exclusive"
    multilabel = "multilabel"
    regression = "regression"


def init_config(
    pipeline: Annotated[
        str,
        typer.Option(
            help="Components, separated by commas: bert, bert_textcat, bert_ner, bert_span_qa, "
            "bert_choice, and spaCy's tagger, morphologizer, parser, senter, ner, textcat, "
            "textcat_multilabel, spancat, trainable_lemmatizer. `bert`, which the others share, is "
            "put first if it is missing."
        ),
    ],
    output: Annotated[Path, typer.Argument(help="File to write; - prints it.")] = Path(
        "config.cfg"
    ),
    encoder: Annotated[
        str, typer.Option(help="The BERT: directory of a checkpoint, or hub id.")
    ] = "bert-base-uncased",
    lang: Annotated[str, typer.Option(help="Code of the language.")] = "en",
    mode: Annotated[
        Mode | None,
        typer.Option(
            help="Of bert_textcat: one class for each text (exclusive, the default), several, or "
            "real values.",
            show_default=False,
        ),
    ] = None,
    gpu: Annotated[
        bool, typer.Option("--gpu", help="Settings for a GPU: larger batches, torch's memory.")
    ] = False,
    private: Annotated[
        bool,
        typer.Option("--private", help="Give each component an encoder of its own, and no bert."),
    ] = False,
    features: Annotated[
        bool,
        typer.Option(
            "--features",
            help="Leave the BERT as it is, and train a BiLSTM on its layers in each component.",
        ),
    ] = False,
    null_answers: Annotated[
        bool,
        typer.Option(
            "--null-answers", help="Of bert_span_qa: a context may hold no answer (SQuAD 2.0)."
        ),
    ] = False,
    max_steps: Annotated[
        int,
        typer.Option(help="Batches to train on at most; sets total_steps and warmup_steps too."),
    ] = 2000,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace OUTPUT.")] = False,
) -> None:
    """Write a config that `spacy train` takes as it is, for any of our components and spaCy's.

    \b
    Examples:
      python -m spacy bert init-config --pipeline bert,bert_ner --encoder pretrained/model-last
      python -m spacy bert init-config textcat.cfg --pipeline bert_textcat --mode multilabel
      python -m spacy bert init-config qa.cfg --pipeline bert_span_qa --null-answers
      python -m spacy bert init-config shared.cfg --pipeline bert_ner,tagger,parser --gpu
    """  # noqa: D301 - click wants the character, as a mark of lines that stay apart
    printed = str(output) == "-"
    with one_line_errors():
        if not printed and output.is_dir():
            raise ValueError(f"{output} is a directory; expected the name of a file")
        if not printed and output.exists() and not overwrite:
            raise ValueError(f"{output} is there already; --overwrite replaces it")

        from spacy_bert.files import replacing
        from spacy_bert.pipeline.starter import make_starter

        names = [name.strip() for name in pipeline.split(",") if name.strip()]
        starter = make_starter(
            names,
            encoder,
            lang=lang,
            mode=None if mode is None else mode.value,
            private=private,
            features=features,
            null_answers=null_answers,
            gpu=gpu,
            max_steps=max_steps,
        )
        text = starter.config.to_str(interpolate=False) + "\n"
        if not printed:
            with replacing(output) as temporary:
                temporary.write_text(text, encoding="utf8")
    for note in starter.notes:
        typer.echo(note, err=printed)
    if printed:
        typer.echo(text, nl=False)
        return
    device = " --gpu-id 0" if gpu else ""
    typer.echo(
        f"python -m spacy train {shlex.quote(str(output))} --output model "
        f"--paths.train train.spacy --paths.dev dev.spacy{device}"
    )
