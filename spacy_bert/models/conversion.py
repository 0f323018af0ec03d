"""Any BERT in, a Hugging Face directory out.

In: Google's TensorFlow checkpoints, what Hugging Face's libraries have written over the years, the
encoder of a saved spaCy pipeline. spaCy is imported for the last of these alone.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spacy_bert.bert import BertConfig, BertForPreTraining, BertModel, save_pretrained
from spacy_bert.bert.checkpoint import CONFIG_FILE, load_whole
from spacy_bert.files import replacing_directory
from spacy_bert.mistaken import is_pipeline
from spacy_bert.wordpiece import WordPiece

if TYPE_CHECKING:
    from spacy_bert.models.encoder import EncoderShim

ARCHITECTURE = "spacy_bert.Encoder.v1"


@dataclass(frozen=True, kw_only=True)
class Conversion:
    """What `convert` has written.

    Attributes:
        config: shape of the network.
        parameters: how many numbers it has.
        heads: whether the heads of pre-training (MLM, NSP) are there.
        pooler: whether the layer on [CLS] is there.
        pieces: size of the vocabulary.
        cased: whether case is kept; None if the tokenizer has a normalizer of another kind.
        left_behind: names of the source's tensors that have no place in the result.
    """

    config: BertConfig
    parameters: int
    heads: bool
    pooler: bool
    pieces: int
    cased: bool | None
    left_behind: list[str]


def convert(
    source: str | Path,
    output: str | Path,
    *,
    cased: bool | None = None,
    component: str | None = None,
    overwrite: bool = False,
) -> Conversion:
    """Write a BERT as a Hugging Face directory, complete or not at all.

    The directory holds `config.json`, `model.safetensors`, `vocab.txt`, `tokenizer.json` and
    `tokenizer_config.json`. Both heads of pre-training are kept if the source has them, otherwise
    the encoder alone is written.

    Args:
        source: a directory of Google's or of Hugging Face's, a hub id, or a saved pipeline.
        output: the directory to write.
        cased: whether case matters; None goes by the tokenizer's files (see `WordPiece.load`).
        component: which component's encoder is meant, if a pipeline has several.
        overwrite: replace a checkpoint that stands at `output`.

    Raises:
        ValueError: says which file or setting is wrong, and what would mend it.
        FileExistsError: if there is something at `output` that may not be replaced.
    """
    output = Path(output)
    _check_output(output, Path(source), overwrite=overwrite)
    model: BertModel | BertForPreTraining
    left_behind: list[str] = []
    if is_pipeline(Path(source)):
        if cased is not None:
            raise ValueError(
                f"{source}: is a saved pipeline, whose tokenizer fixes the case; "
                "leave --cased/--uncased out"
            )
        shim = _encoder_of_pipeline(Path(source), component)
        model, wordpiece = shim.network, shim.wordpiece
    else:
        if component is not None:
            raise ValueError(f"{source}: is no saved pipeline; leave --component out")
        directory = _find(source)
        wordpiece = WordPiece.load(directory, lowercase=None if cased is None else not cased)
        model, left_behind = load_whole(directory)
    if len(wordpiece) > model.config.vocab_size:
        raise ValueError(
            f"{source}: the vocabulary has {len(wordpiece)} pieces, the network embeds only "
            f"{model.config.vocab_size} (vocab_size): they do not belong together"
        )
    with replacing_directory(output) as temporary:
        save_pretrained(model, temporary)
        wordpiece.save(temporary, model_max_length=model.config.max_position_embeddings)
    heads = isinstance(model, BertForPreTraining)
    return Conversion(
        config=model.config,
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        heads=heads,
        pooler=heads or model.pooler is not None,
        pieces=len(wordpiece),
        cased=_is_cased(wordpiece),
        left_behind=left_behind,
    )


def _check_output(output: Path, source: Path, *, overwrite: bool) -> None:
    if not output.exists():
        return
    if not output.is_dir():
        raise FileExistsError(f"{output}: is a file; name a directory")
    if not any(output.iterdir()):
        return
    if not overwrite:
        raise FileExistsError(f"{output}: is not empty; name another, or give --overwrite")
    if output.resolve() in (source.resolve(), *source.resolve().parents):
        raise FileExistsError(f"{output}: holds the source itself; name another directory")
    if not (output / CONFIG_FILE).is_file():
        raise FileExistsError(
            f"{output}: holds files but no {CONFIG_FILE}: not a checkpoint to be replaced; "
            "name another directory"
        )


def _find(source: str | Path) -> Path:
    if Path(source).is_dir():
        return Path(source)
    from spacy_bert.models.hub import find_checkpoint

    return find_checkpoint(source)


def _encoder_of_pipeline(path: Path, component: str | None) -> EncoderShim:
    """The encoder of one component; the others, which may need packages, are not loaded."""
    import spacy

    from spacy_bert.models.encoder import EncoderShim

    components: dict[str, Any] = spacy.util.load_config(path / "config.cfg")["components"]
    found = [name for name in components if _has_encoder(components[name])]
    if not found:
        raise ValueError(
            f"{path / 'config.cfg'}: no component has an encoder of {ARCHITECTURE}; "
            f"the components are {', '.join(components) or 'none'}"
        )
    if component is None and len(found) > 1:
        raise ValueError(
            f"{path}: several components have an encoder: choose --component {' or '.join(found)}"
        )
    if component is not None and component not in found:
        raise ValueError(
            f"{path}: no component {component!r} with an encoder of its own; "
            f"--component may be {' or '.join(found)}"
        )
    wanted = component or found[0]
    nlp = spacy.load(path, exclude=[name for name in components if name != wanted])
    pipe: Any = nlp.get_pipe(wanted)
    return next(
        shim for node in pipe.model.walk() for shim in node.shims if isinstance(shim, EncoderShim)
    )


def _has_encoder(config: Any) -> bool:
    """Whether our encoder is anywhere in a component's configuration."""
    if not isinstance(config, dict):
        return False
    return config.get("@architectures") == ARCHITECTURE or any(map(_has_encoder, config.values()))


def _is_cased(wordpiece: WordPiece) -> bool | None:
    normalizer: dict[str, Any] = json.loads(wordpiece.to_str())["normalizer"] or {}
    if normalizer.get("type") != "BertNormalizer":
        return None
    return not normalizer["lowercase"]
