"""A model stitched to itself is itself; a stitch learns what a rotated model has lost."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import spacy
import torch

from spacy_bert.analysis.decisions import evaluate
from spacy_bert.analysis.inside import find_shim
from spacy_bert.analysis.stitching import Stitch, StitchRecipe, stitch_models, stitched
from tests.analysis.tasks import copied, task


@pytest.mark.parametrize("kind", ["exclusive", "choice"])
@pytest.mark.parametrize("layer", [0, 1, 2])
def test_a_model_stitched_to_itself_is_itself(checkpoint: Path, kind: str, layer: int) -> None:
    one = task(kind, checkpoint)
    head, width = one.head, one.head.shim.network.config.hidden_size
    docs = [example.predicted for example in one.examples]
    plain = head.outputs(docs, head.encode(docs))
    intervention = stitched(head.shim.network, layer, Stitch(width, width, norm=False))
    changed = head.outputs(docs, head.encode(docs, intervention))
    for first, second in zip(plain, changed, strict=True):
        np.testing.assert_allclose(first, second, atol=1e-5)


def test_a_stitch_learns_to_turn_back(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # The first model is the same but for a rotation of what its first layer gives.
    one = task("exclusive", checkpoint)
    turned = copied(one.nlp)
    network = find_shim(turned).network
    generator = torch.Generator().manual_seed(0)
    basis, _ = torch.linalg.qr(torch.randn(128, 128, generator=generator))
    through = network.through
    monkeypatch.setattr(network, "through", lambda *args, **given: through(*args, **given) @ basis)
    module = one.head.shim.module
    before = {name: parameter.clone() for name, parameter in module.named_parameters()}
    done: list[int] = []
    found = stitch_models(
        turned,
        one.nlp,
        one.examples,
        one.examples,
        1,
        recipe=StitchRecipe(steps=60, warmup=6, rate=0.1, batch_size=4),
        progress=done.append,
    )
    assert sum(done) == 60
    assert found.original == evaluate(one.head, one.examples).score
    assert found.losses[-1] < 0.5 * found.losses[0]
    assert found.score >= found.original
    for name, parameter in module.named_parameters():
        assert torch.equal(parameter, before[name])
        assert parameter.grad is None


def test_what_cannot_be_stitched(checkpoint: Path, tmp_path: Path) -> None:
    one = task("exclusive", checkpoint)
    with pytest.raises(ValueError, match="layer is 3, the encoders have 2 and 2 layers"):
        stitch_models(one.nlp, one.nlp, one.examples, one.examples, 3)
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "b"]
    vocab = tmp_path / "vocab.txt"
    vocab.write_text("\n".join(words) + "\n", encoding="utf8")
    other = spacy.blank("en")
    config = {"name": None, "config": {"preset": "tiny"}, "vocab": str(vocab)}
    other.add_pipe("bert", config={"model": config})
    other.initialize()
    with pytest.raises(ValueError, match="different vocabularies"):
        stitch_models(other, one.nlp, one.examples, one.examples, 1)
