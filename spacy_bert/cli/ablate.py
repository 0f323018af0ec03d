"""The command of ablation studies: `ablate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from spacy_bert.cli.errors import one_line_errors


def ablate(
    context: typer.Context,
    study: Annotated[str, typer.Argument(help="tasks, model-size, steps, mask-mix or features.")],
    output: Annotated[Path, typer.Argument(help="Directory for models, scores and report.")],
    config: Annotated[Path, typer.Option(help="Config of pre-training, which arms override.")],
    textcat: Annotated[Path, typer.Option(help="Fine-tuning config: bert, bert_textcat.")],
    ner: Annotated[Path, typer.Option(help="Fine-tuning config: bert, bert_ner.")],
    data: Annotated[
        Path,
        typer.Option(help="Directory of {textcat,ner}/{train,dev,test}.spacy."),
    ] = Path("corpus"),
    steps: Annotated[
        int | None, typer.Option(help="Pre-training steps; default: those of the config.")
    ] = None,
    seeds: Annotated[int, typer.Option(help="Times each arm is fine-tuned.")] = 1,
    jobs: Annotated[
        int, typer.Option(help="Commands at a time; of several, output goes to OUTPUT/logs.")
    ] = 1,
    gpu_id: Annotated[int, typer.Option(help="GPU of fine-tuning; -1: CPU.")] = -1,
    size: Annotated[
        list[str] | None,
        typer.Option(help="For model-size: layers-hidden-heads, repeated for each arm."),
    ] = None,
    arm: Annotated[
        list[str] | None,
        typer.Option(
            help="Only this arm, repeated for several; of tasks: base, no-nsp, ltr, ltr-bilstm, "
            "random."
        ),
    ] = None,
) -> None:
    """Compare ways of pre-training as the paper does: its table beside ours.

    Each arm is pre-trained, fine-tuned on classes and entities, and scored on the test sets. The
    same command goes on where it was stopped; what is done and whose inputs have not changed is
    skipped. Any field of the pre-training config can be overridden: --section.field VALUE.
    Fine-tuning is as long as its configs say ([training] max_steps). `data pydocs corpus` makes the
    data; shards and tokenizer are made by `prepare` and `train-tokenizer`.

    tasks: no NSP, left-to-right, a BiLSTM (Devlin et al. 2018, table 5). model-size: table 6.
    mask-mix: table 8. steps: scores by steps of pre-training, MLM against LTR (figure 5).
    features: layers of a frozen encoder under a BiLSTM instead of fine-tuning (table 7).

    Example: python -m spacy bert ablate tasks ablations/tasks --config configs/pretrain_tiny.cfg
    --textcat configs/textcat.cfg --ner configs/ner.cfg --steps 1000 --jobs 2

    Example: python -m spacy bert ablate model-size ablations/size --config configs/base.cfg
    --textcat textcat.cfg --ner ner.cfg --gpu-id 0 --size 6-768-12 --size 12-768-12
    """
    with one_line_errors():
        from spacy_bert.cli.report import print_table
        from spacy_bert.experiments.ablation_report import (
            build_study_report,
            has_paper_rows,
            paper_table,
            study_table,
            unigram_note,
        )
        from spacy_bert.experiments.ablations import Ablation, Setting
        from spacy_bert.experiments.studies import find_study
        from spacy_bert.pretraining.config import parse_overrides

        overrides = parse_overrides(context.args)
        if steps is not None:
            overrides["training.steps"] = steps
        setting = Setting(
            pretrain_config=config,
            overrides=overrides,
            finetune_configs={"textcat": textcat, "ner": ner},
            data=data,
            output=output,
            seeds=seeds,
            jobs=jobs,
            gpu_id=gpu_id,
        )
        found = find_study(study, sizes=size or (), arms=arm or ())
        ablation = Ablation(found, setting, typer.echo)
        ablation.run()
        table, paper = study_table(ablation), paper_table(ablation)
        page = build_study_report(ablation).save(output / "report")
    print_table(f"{found.title} (paper: {found.source}, in percent)", table)
    if paper and not has_paper_rows(ablation):
        print_table(found.source, paper)
    typer.echo(f"\n{unigram_note(ablation)} {found.note}")
    typer.echo(f"\nReport: {page}")
