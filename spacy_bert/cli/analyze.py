"""The commands that look inside a pipeline: `analyze attention`, `analyze heads` and so on."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

from spacy_bert.cli.analyze_layers import (
    compare,
    geometry,
    pipeline,
    probe,
    stitch,
    structure,
)
from spacy_bert.cli.errors import one_line_errors
from spacy_bert.cli.looking import (
    Clusters,
    Component,
    Data,
    Few,
    Gold,
    Gpu,
    Limit,
    Model,
    Page,
    Questions,
    Trees,
    echo,
    looking,
    require_page,
)

analyze = typer.Typer(
    name="analyze",
    help="Look inside the BERT of a pipeline: what its heads attend to and which are needed, which "
    "words decide, how an answer comes about. Every command prints what it found, and with "
    "--report writes it as a page with charts that needs no network. MODEL is a saved pipeline or "
    "a BERT checkpoint, DATA a .spacy file, a treebank (.conllu), questions in SQuAD's form "
    "(.json) or texts (.txt, one a line).",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@analyze.command("attention", no_args_is_help=True)
def attention(
    model: Model,
    data: Data,
    report: Page = None,
    limit: Limit = None,
    component: Component = None,
    gpu_id: Gpu = -1,
) -> None:
    """What heads look at: neighbours, [CLS], [SEP], punctuation; how broadly; which are alike.

    Example: python -m spacy bert analyze attention bert-base texts.txt --report attention.html
    """
    with looking(model, data, report, component, gpu_id, "what attention looks at") as look:
        from spacy_bert.analysis.inputs import read_docs
        from spacy_bert.analysis.look_inside import look_at_attention

        look_at_attention(look, read_docs(look.nlp, data, limit=limit))


@analyze.command("relations", no_args_is_help=True)
def relations(
    model: Model,
    data: Trees,
    report: Page = None,
    parser: Annotated[
        bool, typer.Option("--parser", help="Also train a parser on the attention of all heads.")
    ] = False,
    agreement: Annotated[
        bool, typer.Option("--agreement", help="The trees are a parser's, not gold.")
    ] = False,
    limit: Limit = None,
    component: Component = None,
    gpu_id: Gpu = -1,
) -> None:
    """Single heads as parsers: the best one of each relation, beside the best fixed offset.

    DATA needs dependency trees: a treebank, or Docs that a pipeline has parsed (--agreement).

    Example: python -m spacy bert analyze relations bert-base en_ewt-ud-dev.conllu --parser
    """
    with looking(model, data, report, component, gpu_id, "heads as parsers") as look:
        from spacy_bert.analysis.inputs import read_docs
        from spacy_bert.analysis.look_inside import look_at_relations

        docs = read_docs(look.nlp, data, limit=limit)
        look_at_relations(look, docs, annotation="spaCy" if agreement else "gold", parser=parser)


@analyze.command("coreference", no_args_is_help=True)
def coreference(
    model: Model,
    data: Clusters,
    report: Page = None,
    limit: Limit = None,
    component: Component = None,
    gpu_id: Gpu = -1,
) -> None:
    """Single heads as pickers of antecedents, of the clusters in doc.spans["coref_clusters_..."].

    Example: python -m spacy bert analyze coreference bert-base clusters.spacy
    """
    with looking(model, data, report, component, gpu_id, "heads and antecedents") as look:
        from spacy_bert.analysis.inputs import read_docs
        from spacy_bert.analysis.look_inside import look_at_coreference

        look_at_coreference(look, read_docs(look.nlp, data, limit=limit))


@analyze.command("heads", no_args_is_help=True)
def heads(
    model: Model,
    data: Gold,
    report: Page = None,
    dev: Annotated[
        Path | None, typer.Option(help="Other annotated Docs to score on.  [DATA]")
    ] = None,
    keep: Annotated[float, typer.Option(help="Share of heads that stay when they are cut.")] = 0.5,
    random_orders: Annotated[
        int, typer.Option(min=0, help="Orders drawn at random to close heads in, for comparison.")
    ] = 3,
    limit: Limit = None,
    component: Component = None,
    gpu_id: Gpu = -1,
) -> None:
    """Which heads a trained component needs: importance, ablation, pruning against chance, time.

    The pipeline stays as it is; `python -m spacy bert prune` cuts heads out of it for good.

    Example: python -m spacy bert analyze heads model/model-best dev.spacy --report heads.html
    """
    with looking(model, data, report, component, gpu_id, "which heads are needed") as look:
        from spacy_bert.analysis.inputs import read_examples
        from spacy_bert.analysis.look_inside import look_at_heads

        other = None if dev is None else read_examples(look.nlp, dev, limit=limit)
        examples = read_examples(look.nlp, data, limit=limit)
        look_at_heads(look, examples, dev=other, keep=keep, random_orders=random_orders)


@analyze.command("words", no_args_is_help=True)
def words(
    model: Model,
    data: Gold,
    report: Page = None,
    layer: Annotated[int, typer.Option(help="Whose dimensions are erased; 0: embeddings.")] = -1,
    limit: Few = 100,
    component: Component = None,
    gpu_id: Gpu = -1,
) -> None:
    """Which words decide, and which dimensions: what is lost when they are erased.

    Dimensions are erased in the first 20 Docs.

    Example: python -m spacy bert analyze words model/model-best dev.spacy --limit 50
    """
    with looking(model, data, report, component, gpu_id, "which words decide") as look:
        from spacy_bert.analysis.inputs import read_examples
        from spacy_bert.analysis.look_inside import look_at_words

        look_at_words(look, read_examples(look.nlp, data, limit=limit), layer=layer)


@analyze.command("explanations", no_args_is_help=True)
def explanations(
    model: Model,
    data: Data,
    report: Page = None,
    limit: Few = 50,
    component: Component = None,
    gpu_id: Gpu = -1,
) -> None:
    """Does attention explain a decision? It is permuted, and replaced by its farthest rival.

    Example: python -m spacy bert analyze explanations model/model-best dev.spacy
    """
    with looking(model, data, report, component, gpu_id, "does attention explain") as look:
        from spacy_bert.analysis.inputs import read_examples
        from spacy_bert.analysis.look_inside import look_at_explanations

        examples = read_examples(look.nlp, data, limit=limit)
        look_at_explanations(look, [example.predicted for example in examples])


@analyze.command("pairs", no_args_is_help=True)
def pairs(
    model: Model,
    data: Gold,
    report: Page = None,
    limit: Few = 500,
    component: Component = None,
    gpu_id: Gpu = -1,
) -> None:
    """How the segments of pairs attend to each other, and what [CLS] and [SEP] are for.

    Example: python -m spacy bert analyze pairs model/model-best dev.spacy
    """
    with looking(model, data, report, component, gpu_id, "attention in pairs") as look:
        from spacy_bert.analysis.inputs import read_examples
        from spacy_bert.analysis.look_inside import look_at_pairs

        look_at_pairs(look, read_examples(look.nlp, data, limit=limit))


@analyze.command("answers", no_args_is_help=True)
def answers(
    model: Model,
    data: Questions,
    report: Page = None,
    before: Annotated[
        str | None, typer.Option(help="Another pipeline or checkpoint, to be shown beside.")
    ] = None,
    limit: Few = 200,
    component: Component = None,
    gpu_id: Gpu = -1,
) -> None:
    """How questions are answered, layer by layer, and why answers are wrong.

    Example: python -m spacy bert analyze answers qa/model-best dev-v1.1.json --before bert-base
    """
    with looking(model, data, report, component, gpu_id, "how BERT answers") as look:
        from spacy_bert.analysis.inputs import load_pipeline, read_examples
        from spacy_bert.analysis.look_inside import look_at_answers

        other = None if before is None else load_pipeline(before)
        look_at_answers(look, read_examples(look.nlp, data, limit=limit), before=other)


@analyze.command("code", no_args_is_help=True)
def code(
    model: Model,
    sources: Annotated[
        list[Path], typer.Argument(help="Python files, directories of them, or modules' names.")
    ],
    report: Page = None,
    limit: Few = 200,
    component: Component = None,
    gpu_id: Gpu = -1,
) -> None:
    """Does attention follow the structure of Python code? The functions of files, one by one.

    Example: python -m spacy bert analyze code codebert src --report code.html
    """
    title = "attention and the structure of code"
    with looking(model, str(sources[0]), report, component, gpu_id, title) as look:
        from spacy_bert.analysis.inputs import read_functions
        from spacy_bert.analysis.look_inside import look_at_code

        look_at_code(look, read_functions(sources, limit=limit))


@analyze.command("trace", no_args_is_help=True)
def trace(
    model: Model,
    text: Annotated[str, typer.Argument(help="The text; of two segments: join them with |||.")],
    report: Page = None,
    component: Component = None,
    gpu_id: Gpu = -1,
) -> None:
    """The attention of all heads in one text, in pictures.

    Example: python -m spacy bert analyze trace bert-base "Time flies." --report trace.html
    """
    with looking(model, f"“{text[:40]}”", report, component, gpu_id, "attention") as look:
        from spacy_bert.analysis.look_inside import look_at_doc
        from spacy_bert.models.segments import join

        look_at_doc(look, join(look.nlp, *text.split("|||")))


@analyze.command("all", no_args_is_help=True)
def everything(
    page: Annotated[Path, typer.Argument(help="HTML file to write.", metavar="OUTPUT")],
    parts: Annotated[
        list[str], typer.Argument(help="NAME=MODEL:DATA, one or several.", metavar="PART...")
    ],
    codes: Annotated[
        list[Path] | None,
        typer.Option(
            "--code", help="Python files, or a module's name: their structure beside attention."
        ),
    ] = None,
    before: Annotated[
        str | None, typer.Option(help="For questions: another BERT, to be shown beside.")
    ] = None,
    limit: Annotated[int, typer.Option(help="Docs of each part at most.")] = 200,
    gpu_id: Gpu = -1,
) -> None:
    """Everything that pipelines and their data have what it needs for, on one page.

    Example: python -m spacy bert analyze all inside.html areas=textcat/model-best:textcat/dev.spacy
    """
    with one_line_errors():
        from thinc.api import require_gpu
        from tqdm import tqdm

        from spacy_bert.analysis.inputs import load_pipeline, read_functions
        from spacy_bert.analysis.look_inside import Look, look_at_all, look_at_code
        from spacy_bert.analysis.report import Report

        require_page(page)
        if gpu_id >= 0:
            require_gpu(gpu_id)
        other = None if before is None else load_pipeline(before)
        report = Report("spacy_bert: looking inside")
        with tqdm(unit="step", disable=None, dynamic_ncols=True) as bar:
            for part in parts:
                name, model, data = _read_part(part)
                nlp = load_pipeline(model)
                source = f"{model} on {data}"
                look = Look(report=report, nlp=nlp, source=source, progress=bar.update)
                report.part(f"{name}: {', '.join(nlp.pipe_names)}", name)
                look_at_all(look, data, limit=limit, before=other)
            if codes:
                report.part("Python code", "code")
                look_at_code(look, read_functions(codes, limit=limit))
        echo(report)
        report.save_page(page)
        typer.echo(f"\nReport: {page}")


def _read_part(part: str) -> tuple[str, str, Path]:
    name, _, rest = part.partition("=")
    model, _, data = rest.rpartition(":")
    if not (re.fullmatch(r"[a-z0-9][a-z0-9-]*", name) and model and data):
        raise ValueError(
            f"{part!r}: give NAME=MODEL:DATA, the name in small letters, digits and hyphens"
        )
    return name, model, Path(data)


for command in (probe, pipeline, structure, compare, stitch, geometry):
    analyze.command(command.__name__, no_args_is_help=True)(command)
