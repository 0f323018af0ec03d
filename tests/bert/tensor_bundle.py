"""A writer of TensorFlow checkpoints for tests, and Google's form of one of our networks.

Written from the description of the formats, without any code of the reader.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch

from spacy_bert.bert import BertForPreTraining
from spacy_bert.wordpiece import WordPiece

DTYPES = {"float32": 1, "float64": 2, "int32": 3, "int64": 9, "float16": 19}


def write_bundle(
    prefix: Path,
    tensors: dict[str, np.ndarray],
    *,
    shards: int = 1,
    block_size: int = 200,
    restart_interval: int = 3,
) -> None:
    """Write PREFIX.index, of small blocks, and PREFIX.data-*; tensors go round the shards."""
    data = [b""] * shards
    entries = [(b"", field(1, shards) + field(3, field(1, 1)))]
    for number, name in enumerate(sorted(tensors)):
        array, shard = tensors[name], number % shards
        content = array.tobytes()
        shape = b"".join(field(2, field(1, size)) for size in array.shape)
        entry = field(1, DTYPES[array.dtype.name]) + field(2, shape) + field(3, shard)
        entry += field(4, len(data[shard])) + field(5, len(content))
        # The checksum of the data, which the reader leaves alone and which takes long to compute.
        entries.append((name.encode(), entry + b"\x35" + bytes(4)))
        data[shard] += content
    for shard, content in enumerate(data):
        file = prefix.with_name(f"{prefix.name}.data-{shard:05d}-of-{shards:05d}")
        file.write_bytes(content)
    index = table(entries, block_size=block_size, restart_interval=restart_interval)
    prefix.with_name(f"{prefix.name}.index").write_bytes(index)


def write_google(
    directory: Path,
    model: BertForPreTraining,
    wordpiece: WordPiece | None = None,
    *,
    name: str = "bert_model.ckpt",
    shards: int = 1,
) -> None:
    """The directory that google-research/bert would have for our network."""
    directory.mkdir(exist_ok=True)
    config = model.config.to_dict()
    del config["layer_norm_eps"], config["pad_token_id"]
    (directory / "bert_config.json").write_text(json.dumps(config))
    if wordpiece is not None:
        (directory / "vocab.txt").write_text("\n".join(wordpiece.tokens) + "\n", encoding="utf8")
    variables = google_variables(model)
    # Training leaves these beside the weights.
    for variable in list(variables):
        variables[f"{variable}/adam_m"] = np.zeros_like(variables[variable])
        variables[f"{variable}/adam_v"] = np.ones_like(variables[variable])
    variables["global_step"] = np.array(1000)
    write_bundle(directory / name, variables, shards=shards)


def google_variables(model: BertForPreTraining) -> dict[str, np.ndarray]:
    """Our parameters as google-research/bert calls and lays them out, spelled out one by one."""
    found: dict[str, np.ndarray] = {}

    def dense(name: str, weight: torch.Tensor, bias: torch.Tensor) -> None:
        found[f"{name}/kernel"] = weight.detach().numpy().T.copy()
        found[f"{name}/bias"] = bias.detach().numpy()

    def norm(name: str, module: torch.nn.LayerNorm) -> None:
        found[f"{name}/LayerNorm/gamma"] = module.weight.detach().numpy()
        found[f"{name}/LayerNorm/beta"] = module.bias.detach().numpy()

    bert = model.bert
    found["bert/embeddings/word_embeddings"] = bert.embeddings.piece.weight.detach().numpy()
    found["bert/embeddings/position_embeddings"] = bert.embeddings.position.weight.detach().numpy()
    found["bert/embeddings/token_type_embeddings"] = bert.embeddings.segment.weight.detach().numpy()
    norm("bert/embeddings", bert.embeddings.norm)
    for number, layer in enumerate(bert.layers):
        name = f"bert/encoder/layer_{number}"
        weights, biases = layer.attention.qkv.weight.chunk(3), layer.attention.qkv.bias.chunk(3)
        for part, weight, bias in zip(("query", "key", "value"), weights, biases, strict=True):
            dense(f"{name}/attention/self/{part}", weight, bias)
        for path, linear in {
            "attention/output/dense": layer.attention.output,
            "intermediate/dense": layer.feed_forward.up,
            "output/dense": layer.feed_forward.down,
        }.items():
            dense(f"{name}/{path}", linear.weight, linear.bias)
        norm(f"{name}/attention/output", layer.attention_norm)
        norm(f"{name}/output", layer.feed_forward_norm)
    assert bert.pooler is not None
    dense("bert/pooler/dense", bert.pooler.dense.weight, bert.pooler.dense.bias)
    dense("cls/predictions/transform/dense", model.mlm.dense.weight, model.mlm.dense.bias)
    norm("cls/predictions/transform", model.mlm.norm)
    found["cls/predictions/output_bias"] = model.mlm.bias.detach().numpy()
    found["cls/seq_relationship/output_weights"] = model.nsp.linear.weight.detach().numpy()
    found["cls/seq_relationship/output_bias"] = model.nsp.linear.bias.detach().numpy()
    return found


def table(
    entries: list[tuple[bytes, bytes]], *, block_size: int, restart_interval: int = 3
) -> bytes:
    """A LevelDB table; a new block begins when one has `block_size` bytes of entries."""
    content = b""
    index: list[tuple[bytes, bytes]] = []

    def add(pairs: list[tuple[bytes, bytes]]) -> bytes:
        """Append a block; its handle."""
        nonlocal content
        encoded = block(pairs, restart_interval)
        handle = varint(len(content)) + varint(len(encoded))
        content += sealed(encoded)
        return handle

    pending: list[tuple[bytes, bytes]] = []
    for entry in entries:
        pending.append(entry)
        if sum(len(key) + len(value) for key, value in pending) >= block_size:
            index.append((pending[-1][0], add(pending)))
            pending = []
    if pending:
        index.append((pending[-1][0], add(pending)))
    footer = add([]) + add(index)
    return content + footer.ljust(40, b"\0") + bytes.fromhex("57fb808b247547db")


def block(entries: list[tuple[bytes, bytes]], restart_interval: int) -> bytes:
    """Keys without what they share with the one before, but for those at restart points."""
    content, restarts, before = b"", [0], b""
    for number, (key, value) in enumerate(entries):
        shared = 0
        if number % restart_interval:
            while shared < min(len(key), len(before)) and key[shared] == before[shared]:
                shared += 1
        elif number:
            restarts.append(len(content))
        content += varint(shared) + varint(len(key) - shared) + varint(len(value))
        content += key[shared:] + value
        before = key
    return content + b"".join(n.to_bytes(4, "little") for n in (*restarts, len(restarts)))


def sealed(encoded: bytes, *, compression: int = 0) -> bytes:
    """A block with its trailer."""
    encoded += bytes([compression])
    return encoded + crc32c(encoded).to_bytes(4, "little")


def varint(value: int) -> bytes:
    """An integer, seven bits a byte."""
    head = b""
    while value >= 128:
        head += bytes([value % 128 + 128])
        value //= 128
    return head + bytes([value])


def field(number: int, value: int | bytes) -> bytes:
    """A field of a protocol buffer; zero is left out, as proto3 has it."""
    if isinstance(value, bytes):
        return varint(number << 3 | 2) + varint(len(value)) + value
    return varint(number << 3) + varint(value) if value else b""


def crc32c(data: bytes) -> int:
    """CRC-32C, masked; by polynomial division, eight steps a byte."""
    remainder = 0xFFFFFFFF
    for byte in data:
        remainder ^= byte
        for _ in range(8):
            odd = remainder & 1
            remainder >>= 1
            if odd:
                remainder ^= 0x82F63B78
    crc = remainder ^ 0xFFFFFFFF
    rotated = (crc >> 15 | crc << 17) & 0xFFFFFFFF
    return (rotated + 0xA282EAD8) % 2**32
