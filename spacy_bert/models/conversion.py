"""Any BERT in, a Hugging Face directory out, or a file of weights as `spacy pretrain` writes it.

In: Google's TensorFlow checkpoints, what Hugging Face's libraries have written over the years, the
encoder of a saved spaCy pipeline or of such a file. spaCy is imported for pipelines and files of
weights alone.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from spacy_bert.bert import BertConfig, BertForPreTraining, BertModel, save_pretrained
from spacy_bert.bert.checkpoint import CONFIG_FILE, load_whole
from spacy_bert.files import check_replaceable, replacing, replacing_directory
from spacy_bert.mistaken import is_pipeline
from spacy_bert.wordpiece import WordPiece

if TYPE_CHECKING:
    from spacy_bert.models.encoder import EncoderShim

ARCHITECTURE = "spacy_bert.Encoder.v1"
WEIGHTS_SUFFIX = ".bin"  # of what `spacy pretrain` writes


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
    bf16: bool = False,
    overwrite: bool = False,
) -> Conversion:
    """Write a BERT as a Hugging Face directory or a file of weights, complete or not at all.

    The directory holds `config.json`, `model.safetensors`, `vocab.txt`, `tokenizer.json` and
    `tokenizer_config.json`. Both heads of pre-training are kept if the source has them, otherwise
    the encoder alone is written.

    A file of weights holds the encoder and its vocabulary for `[initialize] init_tok2vec`.

    Args:
        source: a directory of Google's or of Hugging Face's, a hub id, a saved pipeline, or a file
            that `spacy pretrain` wrote.
        output: the directory to write, or the file, if its name ends in ".bin".
        cased: whether case matters; None goes by the tokenizer's files (see `WordPiece.load`).
        component: which component's encoder is meant, if a pipeline has several.
        bf16: write weights of 16 bits, half the size; whoever reads them gets fp32 again.
        overwrite: replace a checkpoint, or a file of weights, that stands at `output`.

    Raises:
        ValueError: says which file or setting is wrong, and what would mend it.
        FileExistsError: if there is something at `output` that may not be replaced.
    """
    output = Path(output)
    to_file = output.suffix == WEIGHTS_SUFFIX
    if to_file:
        _check_output_file(output, Path(source), overwrite=overwrite)
    else:
        check_checkpoint(output, Path(source), overwrite=overwrite)
    if bf16 and to_file:
        raise ValueError(f"{output}: only directories are written with --bf16; leave it out")
    model, wordpiece, left_behind = _read(source, cased=cased, component=component)
    require_vocabulary(source, wordpiece, model.config)
    if to_file:
        model = model.bert if isinstance(model, BertForPreTraining) else model
        _write_weights(model, wordpiece, output)
    else:
        with replacing_directory(output) as temporary:
            save_pretrained(model, temporary, dtype=torch.bfloat16 if bf16 else torch.float32)
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


def _read(
    source: str | Path, *, cased: bool | None, component: str | None
) -> tuple[BertModel | BertForPreTraining, WordPiece, list[str]]:
    """The network, its vocabulary, and the names of the tensors left behind."""
    path = Path(source)
    pipeline = is_pipeline(path)
    if component is not None and not pipeline:
        raise ValueError(f"{source}: is no saved pipeline; leave --component out")
    if pipeline or path.is_file():
        if cased is not None:
            kind = "saved pipeline" if pipeline else "file of weights"
            raise ValueError(
                f"{source}: is a {kind}, whose tokenizer fixes the case; "
                "leave --cased/--uncased out"
            )
        shim = _encoder_of_pipeline(path, component) if pipeline else _encoder_of_weights(path)
        return shim.network, shim.wordpiece, []
    directory = _find(source)
    wordpiece = WordPiece.load(directory, lowercase=None if cased is None else not cased)
    model, left_behind = load_whole(directory)
    return model, wordpiece, left_behind


def _write_weights(network: BertModel, wordpiece: WordPiece, output: Path) -> None:
    from spacy_bert.models.encoder import build_encoder, encoder_shim

    model = build_encoder()
    encoder_shim(model).take(network, wordpiece)
    model.initialize()
    with replacing(output) as temporary:
        temporary.write_bytes(model.to_bytes())


def _check_output_file(output: Path, source: Path, *, overwrite: bool) -> None:
    if output.is_dir():
        raise FileExistsError(
            f"{output}: is a directory; a name that ends in {WEIGHTS_SUFFIX} is for a file"
        )
    if not output.exists():
        return
    if not overwrite:
        raise FileExistsError(f"{output}: is there already; name another, or give --overwrite")
    if output.resolve() == source.resolve():
        raise FileExistsError(f"{output}: is the source itself; name another file")


def check_checkpoint(output: Path, source: Path | None, *, overwrite: bool) -> None:
    """Refuse to write a checkpoint where something stands that may not be replaced.

    Raises:
        FileExistsError: says what stands there.
    """
    check_replaceable(
        output, overwrite=overwrite, marks=(CONFIG_FILE,), kind="checkpoint", source=source
    )


def require_vocabulary(source: str | Path, wordpiece: WordPiece, config: BertConfig) -> None:
    """Refuse a vocabulary with pieces that the network does not embed.

    Raises:
        ValueError: says how many there are of each.
    """
    if len(wordpiece) > config.vocab_size:
        raise ValueError(
            f"{source}: the vocabulary has {len(wordpiece)} pieces, the network embeds only "
            f"{config.vocab_size} (vocab_size): they do not belong together"
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


def _encoder_of_weights(file: Path) -> EncoderShim:
    """The encoder in a file that `spacy pretrain` wrote: one of the nodes of a thinc model."""
    import srsly

    from spacy_bert.models.encoder import build_encoder, encoder_shim

    found = []
    try:
        for shims in srsly.msgpack_loads(file.read_bytes())["shims"]:
            for saved in shims:
                config = srsly.msgpack_loads(saved)["config"]
                if "bert" in config and "tokenizer" in config:
                    found.append(saved)
    except (ValueError, KeyError, TypeError):
        pass  # bytes of any other kind
    if len(found) != 1:
        raise ValueError(
            f"{file}: is no file of weights that `spacy pretrain` wrote for an {ARCHITECTURE}; of "
            "other checkpoints name the directory"
        )
    shim = encoder_shim(build_encoder())
    try:
        shim.from_bytes(found[0])
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from None
    return shim


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
