"""Every name that the package registers resolves, through its entry point alone."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import distribution, entry_points

import pytest
from spacy.util import registry

OURS = [(point.group, point.name) for point in distribution("spacy-bert").entry_points]


def test_there_are_entry_points() -> None:
    assert {group for group, _ in OURS} >= {
        "spacy_factories",
        "spacy_architectures",
        "spacy_cli",
        "thinc_optimizers",
    }


@pytest.mark.parametrize(("group", "name"), OURS)
def test_entry_point_resolves_in_its_registry(group: str, name: str) -> None:
    (point,) = entry_points(group=group, name=name)
    target = point.load()
    if group == "spacy_cli":
        assert registry.cli.get(name) is target
    elif group == "spacy_factories":
        assert registry._entry_point_factories.get(name) is target
    else:
        assert registry.get(group.partition("_")[2], name) is target


@pytest.mark.parametrize("name", ["ask", "choose", "from_hf", "join", "to_hf"])
def test_the_package_is_light_and_gives_its_functions(name: str) -> None:
    code = (
        "import sys, spacy_bert; assert 'torch' not in sys.modules, 'torch'; "
        f"assert 'spacy' not in sys.modules, 'spacy'; assert '{name}' in dir(spacy_bert); "
        f"spacy_bert.{name}; assert 'spacy' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_extensions_are_there_for_whoever_makes_a_pipeline() -> None:
    code = (
        "import spacy; doc = spacy.blank('en')('a\\x1eb'); "
        "assert [s.text for s in doc._.segments] == ['a', 'b']; "
        "assert doc._.answers == []; "
        "assert doc._.choice is None; "
        "assert doc._.choice_scores == []"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
