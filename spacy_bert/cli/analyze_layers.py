"""The commands that look at layers: `analyze probe`, `analyze compare` and so on."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from spacy_bert.cli.errors import one_line_errors
from spacy_bert.cli.looking import Component, Data, Few, Gpu, Limit, Model, Page, looking

if TYPE_CHECKING:
    from spacy.language import Language

    from spacy_bert.analysis.look_inside import Look

Train = Annotated[Path, typer.Argument(help="Annotated Docs to learn from: .spacy, .conllu.")]
Dev = Annotated[Path, typer.Argument(help="Annotated Docs to score on.")]
Others = Annotated[
    list[str] | None,
    typer.Option("--other", help="NAME=MODEL, shown beside; may be given several times."),
]
Random = Annotated[
    bool,
    typer.Option("--random", help="The same network with random weights beside: chance."),
]
CHANCE = "Random weights"
TASKS = (
    "pos, tag, dependency, entity, chunk, category, supporting-fact, question-type, coreference, "
    "relation, edges, labelled-spans, semantic-role, or morph:FEATURE"
)
NUMBERS = "depth, position, head-distance"
Epochs = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Passes over the training targets.  [3, of large sets fewer; code length: 10]",
        show_default=False,
    ),
]


def _beside(
    look: Look, model: str, others: list[str], *, random: bool
) -> tuple[Look, dict[str, Language]]:
    """The other models that are shown, by name, and the sources that say where they come from."""
    from spacy_bert.analysis.inputs import load_named, load_random

    named = load_named(others)
    sources = dict(each.split("=", 1) for each in others)
    if random:
        named[CHANCE] = load_random(model, component=look.component)
        sources[CHANCE] = "drawn as before pre-training, seed 0"
    return look.beside(sources), named


def probe(
    model: Model,
    train: Train,
    dev: Dev,
    task: Annotated[
        str, typer.Option(help=f"What is asked: {TASKS}; or a number: {NUMBERS}.")
    ] = "pos",
    report: Page = None,
    others: Others = None,
    random: Random = False,
    epochs: Epochs = None,
    linear: Annotated[
        bool, typer.Option("--linear", help="Linear probes: they can remember less of the words.")
    ] = False,
    online_code: Annotated[
        bool, typer.Option("--online-code", help="Code length of the labels, instead of scores.")
    ] = False,
    limit: Limit = None,
    component: Component = None,
    gpu_id: Gpu = -1,
) -> None:
    """What each layer knows of a task: edge probes, with a control task beside (Tenney et al.).

    Of a number, how linear it is in each layer (R², Hupkes et al.). --online-code says how few bits
    the labels cost, given a layer (Voita & Titov).

    Example: python -m spacy bert analyze probe bert-base train.conllu dev.conllu --task dependency

    Example: python -m spacy bert analyze probe bert-base train.spacy dev.spacy --task entity
    --other tuned=model/model-best --random
    """
    is_number = task in NUMBERS.split(", ")
    with one_line_errors():  # before anything is loaded
        if is_number and online_code:
            raise ValueError(f"--online-code sends labels, and {task} is a number")
        if linear and (is_number or online_code):
            raise ValueError(
                "--linear is for the F1 of labels, with neither a number nor --online-code"
            )
    kind = "code length of" if online_code else "regression of" if is_number else "probing for"
    title = f"{kind} {task}"
    with looking(model, dev, report, component, gpu_id, title, learned=train) as look:
        from dataclasses import replace

        from spacy_bert.analysis import look_at_layers
        from spacy_bert.analysis.description_length import RECIPE
        from spacy_bert.analysis.inputs import read_docs
        from spacy_bert.analysis.probe_tasks import find_task
        from spacy_bert.analysis.probe_training import LINEAR, ProbeRecipe
        from spacy_bert.analysis.regression import QUANTITIES

        found = None if is_number else find_task(task)
        known, asked = (read_docs(look.nlp, file, limit=limit) for file in (train, dev))
        look, named = _beside(look, model, others or [], random=random)
        if found is None:
            number = QUANTITIES[task]()
            look_at_layers.look_at_numbers(look, known, asked, number, others=named)
        elif online_code:
            recipe = RECIPE if epochs is None else replace(RECIPE, epochs=epochs)
            look_at_layers.look_at_codes(look, known, asked, found, others=named, recipe=recipe)
        else:
            recipe = replace(LINEAR if linear else ProbeRecipe(), epochs=epochs)
            look_at_layers.look_at_probes(look, known, asked, found, others=named, recipe=recipe)


def pipeline(
    model: Model,
    train: Train,
    dev: Dev,
    tasks: Annotated[str, typer.Option(help=f"With commas: {TASKS}.")] = "pos,dependency",
    report: Page = None,
    epochs: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Passes over the training targets.  [3, of large sets fewer]",
            show_default=False,
        ),
    ] = None,
    limit: Limit = None,
    component: Component = None,
    gpu_id: Gpu = -1,
) -> None:
    """In which layers tasks are solved: expected layer, centre of gravity (Tenney et al. 2019b).

    Example: python -m spacy bert analyze pipeline bert-base train.conllu dev.conllu
    """
    title = "the classical pipeline"
    with looking(model, dev, report, component, gpu_id, title, learned=train) as look:
        from spacy_bert.analysis.inputs import read_docs
        from spacy_bert.analysis.look_at_layers import look_at_pipeline
        from spacy_bert.analysis.probe_tasks import find_task
        from spacy_bert.analysis.probe_training import ProbeRecipe

        asked = [find_task(name.strip()) for name in tasks.split(",")]
        look_at_pipeline(
            look,
            read_docs(look.nlp, train, limit=limit),
            read_docs(look.nlp, dev, limit=limit),
            asked,
            recipe=ProbeRecipe(epochs=epochs),
        )


def structure(
    model: Model,
    data: Annotated[
        Path, typer.Argument(help=".conllu, .spacy, a probing task (.txt), or pairs (.jsonl).")
    ],
    report: Page = None,
    test: Annotated[
        Path | None,
        typer.Option(
            help="For agreement: another treebank, or generated.tab of Gulordava et al.  "
            "[a fifth of DATA]"
        ),
    ] = None,
    limit: Limit = None,
    component: Component = None,
    gpu_id: Gpu = -1,
) -> None:
    """Phrases, ten questions about sentences, agreement, roles, by layer (Jawahar et al. 2019).

    Of DATA with entities or chunks in doc.ents, whether they cluster; of a treebank, the rest, and
    the dependency trees that single heads give (Htut et al. 2019). Of a probing task in SentEval's
    form (set, label and sentence, between tabs), what each layer knows of it. Of minimal pairs
    (BLiMP; Marvin & Linzen), whether a masked language model holds the right sentence for the
    likelier one: MODEL is then a checkpoint with that head, and --limit counts pairs of each kind.

    Example: python -m spacy bert analyze structure bert-base en_ewt-ud-train.conllu

    Example: python -m spacy bert analyze structure bert-base blimp.jsonl --limit 100
    """
    with looking(model, data, report, component, gpu_id, "structure in the layers") as look:
        from spacy_bert.analysis import look_at_layers
        from spacy_bert.analysis.agreement import find_agreement, read_gulordava
        from spacy_bert.analysis.inputs import read_docs
        from spacy_bert.analysis.minimal_pairs import read_pairs
        from spacy_bert.analysis.sentence_tasks import read_senteval

        kind = data.name.removesuffix(".gz").rpartition(".")[2]
        if kind == "jsonl":
            look_at_layers.look_at_pairs_of_sentences(look, model, read_pairs(data), limit=limit)
            return
        if kind == "txt":
            name = data.name.partition(".")[0]
            sets = read_senteval(data, look.nlp.vocab)
            look_at_layers.look_at_task(look, name, sets, limit=limit)
            return
        targets = None
        if test is not None and test.name.removesuffix(".gz").endswith(".tab"):
            targets = read_gulordava(test, look.nlp.vocab)[:limit]
        elif test is not None:
            targets = list(find_agreement(read_docs(look.nlp, test, limit=limit)))
        docs = read_docs(look.nlp, data, limit=limit)
        look_at_layers.look_at_structure(look, docs, test=targets)


def compare(
    model: Model,
    data: Data,
    report: Page = None,
    others: Others = None,
    random: Random = False,
    limit: Few = 2000,
    component: Component = None,
    gpu_id: Gpu = -1,
) -> None:
    """How alike layers are (CKA), with each other and with those of other models.

    Example: python -m spacy bert analyze compare bert-base texts.txt --other tuned=model/model-best
    """
    with looking(model, data, report, component, gpu_id, "similarity of layers") as look:
        from spacy_bert.analysis.inputs import read_docs
        from spacy_bert.analysis.look_at_layers import look_at_similarity

        docs = read_docs(look.nlp, data, limit=limit)
        name = Path(model).name or model  # of a directory; a pipeline's name has no slash
        look, named = _beside(look, model, others or [], random=random)
        look_at_similarity(look, docs, name=name, others=named)


def stitch(
    front: Annotated[str, typer.Argument(help="Whose first layers are taken.")],
    model: Annotated[str, typer.Argument(help="The pipeline that goes on and does its task.")],
    train: Train,
    dev: Dev,
    layers: Annotated[
        str, typer.Option(help="After which layers, with commas.  [all]", show_default=False)
    ] = "",
    steps: Annotated[int, typer.Option(help="Updates of each stitch.")] = 2000,
    report: Page = None,
    limit: Limit = None,
    component: Component = None,
    gpu_id: Gpu = -1,
) -> None:
    """Whether a pipeline can go on from the layers of another model (Brown et al. 2023).

    Both must have the same vocabulary, as a BERT and what was fine-tuned from it.

    Example: python -m spacy bert analyze stitch bert-base model/model-best train.spacy dev.spacy
    """
    title = f"stitched to {front}"
    with looking(model, dev, report, component, gpu_id, title, learned=train) as look:
        from spacy_bert.analysis.inputs import load_pipeline, read_examples
        from spacy_bert.analysis.look_at_layers import look_at_stitching
        from spacy_bert.analysis.stitching import StitchRecipe

        look_at_stitching(
            look,
            load_pipeline(front),
            read_examples(look.nlp, train, limit=limit),
            read_examples(look.nlp, dev, limit=limit),
            _numbers(layers) if layers else None,
            one=front,
            other=model,
            recipe=StitchRecipe(steps=steps, warmup=min(200, steps // 10)),
        )


def geometry(
    model: Model,
    data: Data,
    report: Page = None,
    label: Annotated[
        str | None, typer.Option(help="pos, tag or dep: do neighbours share it?")
    ] = None,
    points: Annotated[int, typer.Option(help="Tokens, drawn at random.")] = 10_000,
    limit: Limit = None,
    component: Component = None,
    gpu_id: Gpu = -1,
) -> None:
    """Intrinsic dimension and neighbourhoods of tokens by layer (Valeriani et al. 2023).

    Example: python -m spacy bert analyze geometry bert-base dev.conllu --label pos
    """
    with looking(model, data, report, component, gpu_id, "geometry of the layers") as look:
        from dataclasses import replace

        from spacy_bert.analysis.inputs import read_docs
        from spacy_bert.analysis.layer_choice import find_label
        from spacy_bert.analysis.look_at_layers import look_at_geometry

        docs = read_docs(look.nlp, data, limit=limit)
        labels = None if label is None else find_label(label)
        what = f"{points:,} tokens at most" + (f", label {label}" if label else "")
        look = replace(look, source=f"{look.source} ({what})")
        look_at_geometry(look, docs, label=labels, points=points)


def _numbers(layers: str) -> list[int]:
    try:
        return [int(layer) for layer in layers.split(",")]
    except ValueError:
        raise ValueError(f"--layers must be numbers with commas, got {layers!r}") from None
