"""The command `data glue`: official files of GLUE and SICK -> `.spacy` files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from spacy_bert.cli.errors import one_line_errors
from spacy_bert.cli.splits import echo_splits


def glue(
    task: Annotated[
        str,
        typer.Argument(
            help="cola, sst2, mrpc, stsb, qqp, mnli, qnli, rte, wnli, ax (the diagnostic set), or "
            "sick-e (entailment) and sick-r (relatedness) of SICK."
        ),
    ],
    source: Annotated[Path, typer.Argument(help="Directory of the official files, also .gz.")],
    output: Annotated[Path, typer.Argument(help="Directory to write to.")],
    lang: Annotated[str, typer.Option(help="Code of the language, for its tokenizer.")] = "en",
    skip_bad_rows: Annotated[
        bool, typer.Option("--skip-bad-rows", help="Pass over malformed rows, and list them.")
    ] = False,
) -> None:
    """Turn a task of GLUE into train.spacy, dev.spacy and test.spacy for bert_textcat.

    A pair of sentences becomes a Doc of two segments; doc.cats holds the classes, or the score of
    stsb and sick-r, which want mode = "regression". A split without a file is left out; the Docs of
    a test file without labels have none.

    Expected are train.tsv, dev.tsv and test.tsv; of mnli, dev_matched.tsv, dev_mismatched.tsv and
    so on; of mrpc also msr_paraphrase_train.txt, msr_paraphrase_test.txt and dev_ids.tsv; of ax,
    diagnostic.tsv; of SICK, SICK_train.txt, SICK_trial.txt and SICK_test_annotated.txt.

    Example: python -m spacy bert data glue mrpc glue_data/MRPC mrpc
    """
    with one_line_errors():
        from spacy_bert.datasets.glue import TASKS, write_glue
        from spacy_bert.datasets.splits import find_task
        from spacy_bert.datasets.writing import BadRows, blank_pipeline

        files = {split: names[0] for split, names in find_task(TASKS, task).files.items()}
        bad = BadRows(skip=skip_bad_rows)
        splits = write_glue(task, source, output, blank_pipeline(lang), bad)
    echo_splits(files, splits, source, bad.problems)
