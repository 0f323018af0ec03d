"""The command `prune`: a pipeline without the attention heads that matter least."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from spacy_bert.cli.errors import one_line_errors

if TYPE_CHECKING:
    from spacy_bert.analysis.pruned_pipeline import Pruned


def prune(
    pipeline: Annotated[
        str, typer.Argument(help="Directory or name of a pipeline.", metavar="MODEL")
    ],
    data: Annotated[Path, typer.Argument(help="Annotated Docs: .spacy, or a directory of them.")],
    output: Annotated[Path, typer.Argument(help="Directory of the pipeline.", metavar="OUT")],
    keep: Annotated[
        float | None,
        typer.Option(help="Share of the heads that stay.", show_default=False),
    ] = None,
    threshold: Annotated[
        float | None,
        typer.Option(
            help="Instead: heads go, 10 % at a time, while this share of the score is left.",
            show_default=False,
        ),
    ] = None,
    component: Annotated[
        str | None, typer.Option(help="Component whose loss decides, if there are several.")
    ] = None,
    metric: Annotated[
        str | None, typer.Option(help="Score that counts, if not the component's main one.")
    ] = None,
    dev: Annotated[Path | None, typer.Option(help="Other Docs to score on; default: DATA.")] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace a pipeline that stands at OUT.")
    ] = False,
    gpu_id: Annotated[int, typer.Option("--gpu-id", "-g", help="-1 for the CPU.")] = -1,
    code: Annotated[
        Path | None, typer.Option("--code", "-c", help="Python file to import before.")
    ] = None,
) -> None:
    """Cut the attention heads out of a pipeline that matter least to one of its components.

    The importance of a head is the mean over Docs of |dL/d gate| (Michel et al. 2019). Whatever
    else reads the encoder loses the heads too. The speed is that of encoder and component alone.

    Example: python -m spacy bert prune model/model-best dev.spacy pruned --keep 0.5

    Example: python -m spacy bert prune model/model-best train.spacy pruned --threshold 0.9 --dev
    dev.spacy
    """
    with one_line_errors():
        import spacy
        from spacy.cli._util import import_code
        from thinc.api import require_gpu
        from tqdm import tqdm

        from spacy_bert.analysis.pruned_pipeline import prune as run
        from spacy_bert.experiments.evaluation import read_examples
        from spacy_bert.files import check_replaceable, replacing_directory
        from spacy_bert.mistaken import PIPELINE_FILES, refuse_runs

        check_replaceable(
            output,
            overwrite=overwrite,
            marks=PIPELINE_FILES,
            kind="pipeline",
            source=Path(pipeline),
        )
        import_code(code)
        if gpu_id >= 0:
            require_gpu(gpu_id)
        refuse_runs(Path(pipeline))
        nlp = spacy.load(pipeline)
        examples = read_examples(nlp, data)
        unit = "head" if keep is None else "Doc"
        with tqdm(unit=unit, disable=None, dynamic_ncols=True) as bar:
            done = run(
                nlp,
                examples,
                component,
                keep=keep,
                threshold=threshold,
                dev=None if dev is None else read_examples(nlp, dev),
                metric=metric,
                progress=bar.update,
            )
        with replacing_directory(output) as temporary:
            nlp.to_disk(temporary)
    _echo(done)
    typer.echo(f"Pipeline: {output}")


def _echo(done: Pruned) -> None:
    from wasabi.tables import table

    before, after = done.before, done.after
    rows = [
        ["heads", f"{before.heads:,}", f"{after.heads:,}"],
        ["parameters", f"{before.parameters:,}", f"{after.parameters:,}"],
        [before.quality.metric, f"{before.quality.score:.3f}", f"{after.quality.score:.3f}"],
        [
            "log-likelihood (nats)",
            f"{before.quality.log_likelihood:.3f}",
            f"{after.quality.log_likelihood:.3f}",
        ],
        ["Docs a second", f"{before.docs_per_second:,.1f}", f"{after.docs_per_second:,.1f}"],
    ]
    header = [done.component, "before", "after"]
    typer.echo(table(rows, header=header, divider=True, aligns=["l", "r", "r"]).strip("\n"))
    for layer, heads in done.heads.items():
        typer.echo(f"Layer {layer}: cut head {', '.join(map(str, heads))}")
