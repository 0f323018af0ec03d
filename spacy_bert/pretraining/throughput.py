"""How much of a device a run uses: model FLOPs utilisation (MFU; Chowdhery et al. 2022, app. B)."""

from __future__ import annotations

import torch

from spacy_bert.bert import BertConfig

# Dense bf16 peak in TFLOP/s, by a part of the device's name, as the makers state it.
_PEAKS = {"H200": 989.0, "H100": 989.0, "A100": 312.0, "L40S": 362.0, "L4": 121.0, "A10G": 70.0}


def flops_per_piece(config: BertConfig, *, length: float, predicted: float) -> float:
    """FLOPs of a forward and backward pass for one real piece.

    6 L (4 H^2 + 2 H I) for the matrices of the layers, 12 L H s for attention over sequences of
    length s, and 6 m (H V + H^2) for the MLM head on the share m of the pieces. What an
    implementation computes beyond that (padding, a head on every piece) does not count.

    Args:
        config: The network.
        length: Mean sequence length s.
        predicted: Share m of the pieces that are predicted.
    """
    hidden, layers = config.hidden_size, config.num_hidden_layers
    matrices = 6 * layers * (4 * hidden**2 + 2 * hidden * config.intermediate_size)
    attention = 12 * layers * hidden * length
    head = 6 * predicted * (hidden * config.vocab_size + hidden**2)
    return matrices + attention + head


def peak_flops(device: torch.device, stated: float) -> float | None:
    """FLOP/s that a device can do in bf16, or None if that is not known.

    Args:
        device: Where training runs.
        stated: What the user says in TFLOP/s; 0 for nothing.
    """
    if stated:
        return stated * 1e12
    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
        for part, peak in _PEAKS.items():
            if part in name:
                return peak * 1e12
    return None
