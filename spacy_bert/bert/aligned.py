"""Attention of equally long sequences on a CPU, in the widths its kernel is fast at.

The kernel behind `scaled_dot_product_attention` takes what a row of scores has beyond a multiple
of its vectors' width one number at a time, and pays a fixed price for each sequence and head. So
rows of scores are made a multiple of 16 long: short sequences share one, and what is still missing
are the keys of a neighbour, which are there anyway; a mask gives all that is foreign the weight 0.
Nothing is copied, and the result is the same to rounding, as long as all numbers are finite: 0
times what is not is not 0.
"""

from __future__ import annotations

from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

WIDTH = 16
SHARED = 32  # so many pieces may share a row of scores; beyond, what is masked costs more


def aligned_attention(qkv: Tensor, *, start: int, count: int, length: int) -> Tensor:
    """Scaled dot-product attention of one run of sequences; not for training.

    Args:
        qkv: queries, keys and values of all sequences, (total, 3, heads, head size).
        start: row at which the run begins.
        count: sequences in it.
        length: pieces of each.

    Returns:
        The heads' outputs, (count * length, heads, head size).
    """
    together = min(count, max(1, SHARED // length))
    blocks, rest = divmod(count, together)
    heads = _attend(qkv, start, blocks, together, length)
    if not rest:
        return heads
    last = _attend(qkv, start + blocks * together * length, 1, rest, length)
    return torch.cat([heads, last])


def _attend(qkv: Tensor, start: int, blocks: int, together: int, length: int) -> Tensor:
    """Blocks of so many sequences together; (pieces, heads, head size)."""
    rows = together * length
    end = start + blocks * rows
    spare = -rows % WIDTH
    before = 0
    if end + spare > len(qkv):  # nothing follows the last block: look back instead
        before = spare
    if before > start:  # nor does enough precede the first
        before = spare = 0
    query = qkv[start:end, 0].unfold(0, rows, rows).transpose(2, 3)
    # (blocks, heads, rows + spare, head size): windows that overlap
    looked_at = qkv[start - before : end - before + spare]
    keys, values = (looked_at[:, i].unfold(0, rows + spare, rows).transpose(2, 3) for i in (1, 2))
    mask = None
    if spare or together > 1:
        mask = _mask(together, length, before, rows + spare, qkv.dtype)
    heads = F.scaled_dot_product_attention(query, keys, values, attn_mask=mask)
    return heads.transpose(1, 2).flatten(0, 1)


@lru_cache(maxsize=1024)
def _mask(together: int, length: int, before: int, keys: int, dtype: torch.dtype) -> Tensor:
    """0 where a piece may look and -inf elsewhere, (1, 1, pieces or 1, keys).

    A block's own keys begin at `before`.
    """
    owner = torch.arange(keys, device="cpu").sub_(before).div_(length, rounding_mode="floor")
    own = torch.arange(together, device="cpu")[:, None] == owner
    mask = owner.new_zeros(own.shape, dtype=dtype).masked_fill_(~own, float("-inf"))
    if together > 1:
        mask = mask.repeat_interleave(length, dim=0)
    return mask[None, None]
