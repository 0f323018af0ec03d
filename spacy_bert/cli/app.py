"""The command line's table of contents: every command of `python -m spacy bert`.

spaCy is not imported here, so that `python -m spacy_bert` serves on a machine without it.
"""

from __future__ import annotations

import typer

from spacy_bert.cli.ablate import ablate
from spacy_bert.cli.analyze import analyze
from spacy_bert.cli.compare import compare
from spacy_bert.cli.convert import convert
from spacy_bert.cli.data import data
from spacy_bert.cli.evaluate import evaluate
from spacy_bert.cli.grid import grid
from spacy_bert.cli.hugging_face import from_hf, to_hf
from spacy_bert.cli.init_config import init_config
from spacy_bert.cli.pretraining import prepare, pretrain, train_tokenizer
from spacy_bert.cli.prune import prune
from spacy_bert.cli.report import baselines, report
from spacy_bert.cli.reproduce import reproduce

app = typer.Typer(
    name="bert",
    help="Pre-train BERT, convert checkpoints, score pipelines, report what came of it. From text "
    "to a network: train-tokenizer, then prepare, then pretrain; each --help has an example.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
_FREE_OPTIONS = {"allow_extra_args": True, "ignore_unknown_options": True}

app.command("train-tokenizer", no_args_is_help=True)(train_tokenizer)
app.command("prepare", no_args_is_help=True)(prepare)
app.command("pretrain", no_args_is_help=True, context_settings=_FREE_OPTIONS)(pretrain)
app.command("convert", no_args_is_help=True)(convert)
app.command("from-hf", no_args_is_help=True)(from_hf)
app.command("to-hf", no_args_is_help=True)(to_hf)
app.add_typer(data)
app.add_typer(analyze)
app.command("init-config", no_args_is_help=True)(init_config)
app.command("evaluate", no_args_is_help=True)(evaluate)
app.command("prune", no_args_is_help=True)(prune)
app.command("baselines", no_args_is_help=True)(baselines)
app.command("report", no_args_is_help=True)(report)
app.command("compare", no_args_is_help=True, context_settings=_FREE_OPTIONS)(compare)
app.command("grid", no_args_is_help=True, context_settings=_FREE_OPTIONS)(grid)
app.command("reproduce", no_args_is_help=True, context_settings=_FREE_OPTIONS)(reproduce)
app.command("ablate", no_args_is_help=True, context_settings=_FREE_OPTIONS)(ablate)
