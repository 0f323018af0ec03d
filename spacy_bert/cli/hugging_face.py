"""The commands `from-hf` and `to-hf`: Hugging Face's fine-tuned BERTs in and out."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from spacy_bert.cli.convert import echo_left_behind
from spacy_bert.cli.errors import one_line_errors


class Task(str, Enum):
    """What a checkpoint was fine-tuned for."""

    sequence_classification = "sequence-classification"
    token_classification = "token-classification"
    question_answering = "question-answering"
    multiple_choice = "multiple-choice"
    encoder = "encoder"


class ProblemType(str, Enum):
    """What a sequence classification finds, in Hugging Face's words."""

    single_label_classification = "single_label_classification"
    multi_label_classification = "multi_label_classification"
    regression = "regression"


def from_hf(
    source: Annotated[
        str, typer.Argument(help="Directory of the checkpoint, or hub id.", metavar="DIR")
    ],
    output: Annotated[Path, typer.Argument(help="Directory of the pipeline.", metavar="OUT")],
    lang: Annotated[
        str | None,
        typer.Option(
            help="Code of the language, whose tokenizer the pipeline gets; en, if none is noted.",
            show_default=False,
        ),
    ] = None,
    task: Annotated[
        Task | None,
        typer.Option(
            help="How to read the checkpoint, if `architectures` is missing or another.",
            show_default=False,
        ),
    ] = None,
    problem_type: Annotated[
        ProblemType | None,
        typer.Option(
            help="Of a sequence classification, if config.json does not say it; by default one "
            "output is a real value, several are exclusive classes.",
            show_default=False,
        ),
    ] = None,
    null_answers: Annotated[
        bool | None,
        typer.Option(
            "--null-answers/--no-null-answers",
            help="Whether a context may hold no answer, as in SQuAD 2.0.",
            show_default=False,
        ),
    ] = None,
    window: Annotated[
        int | None,
        typer.Option(help="Pieces read together at most; default: the network's positions."),
    ] = None,
    stride: Annotated[
        int | None, typer.Option(help="Pieces between two windows' starts; default: 3/4 of one.")
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace a pipeline that stands at OUT.")
    ] = False,
) -> None:
    """Make a spaCy pipeline of a fine-tuned BERT of Hugging Face's.

    BertForSequenceClassification becomes bert and bert_textcat, BertForTokenClassification (with
    BIO tags) bert_ner, BertForQuestionAnswering bert_span_qa, BertForMultipleChoice bert_choice;
    any other BERT becomes bert alone.

    Example: python -m spacy bert from-hf bert-base-NER ner-model
    """
    with one_line_errors():
        from spacy_bert.files import check_replaceable, replacing_directory
        from spacy_bert.mistaken import PIPELINE_FILES
        from spacy_bert.pipeline.from_hf import read_hf
        from spacy_bert.pipeline.hf_tasks import USES

        check_replaceable(
            output,
            overwrite=overwrite,
            marks=PIPELINE_FILES,
            kind="pipeline",
            source=Path(source),
        )
        done = read_hf(
            source,
            lang=lang,
            task=None if task is None else task.value,
            problem_type=None if problem_type is None else problem_type.value,
            null_answers=null_answers,
            window=window,
            stride=stride,
        )
        with replacing_directory(output) as temporary:
            done.nlp.to_disk(temporary)
    typer.echo(f"{output}: {done.nlp.meta['description']}")
    if done.missing:
        typer.echo(f"tags that it does not have, and never predicts: {', '.join(done.missing)}")
    echo_left_behind(done.left_behind)
    typer.echo(f"nlp = spacy.load({str(output)!r}); {USES[done.task]}")


def to_hf(
    pipeline: Annotated[
        str,
        typer.Argument(help="Directory of a pipeline, or name of an installed one."),
    ],
    output: Annotated[Path, typer.Argument(help="Directory to write.", metavar="OUT")],
    component: Annotated[
        str | None,
        typer.Option(help="Component that is meant, if there are several; bert: the encoder."),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace a checkpoint that stands at OUT.")
    ] = False,
) -> None:
    """Make a Hugging Face directory of a pipeline's component and its encoder.

    bert_textcat becomes BertForSequenceClassification, bert_ner BertForTokenClassification,
    bert_span_qa BertForQuestionAnswering, bert_choice BertForMultipleChoice, bert alone BertModel.

    Example: python -m spacy bert to-hf model/model-best hf-model --component bert_ner
    """
    with one_line_errors():
        import spacy

        from spacy_bert.mistaken import refuse_runs
        from spacy_bert.pipeline.to_hf import to_hf as run

        refuse_runs(Path(pipeline))
        done = run(spacy.load(pipeline), output, component=component, overwrite=overwrite)
    left_out = f"; left out: {', '.join(done.left_out)}" if done.left_out else ""
    typer.echo(f"{output}: {done.architecture}, from {done.component}{left_out}")
    if done.pruned_layers:
        layers = ", ".join(map(str, done.pruned_layers))
        typer.echo(f"transformers has no layers without heads ({layers}): only from-hf reads it")
        return
    if done.has_pruned_heads:
        typer.echo("with pruned heads, which transformers reads up to version 4")
    typer.echo(f"transformers.{done.architecture}.from_pretrained({str(output)!r})")
