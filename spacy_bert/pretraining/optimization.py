"""The optimizer of Devlin et al. 2018, appendix A.2: Adam with decoupled decay, linear schedule."""

from __future__ import annotations

import math

from torch import nn
from torch.optim import AdamW

from spacy_bert.pretraining.config import TrainingSettings


def build_optimizer(model: nn.Module, settings: TrainingSettings) -> AdamW:
    """AdamW in one fused step, with decay on matrices alone (not on biases and LayerNorm)."""
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    return AdamW(
        [
            {"params": [parameter for parameter in parameters if parameter.ndim >= 2]},
            {"params": [parameter for parameter in parameters if parameter.ndim < 2]},
        ],
        lr=settings.learning_rate,
        betas=(settings.beta1, settings.beta2),
        eps=settings.epsilon,
        fused=True,
    )


def set_rate(optimizer: AdamW, step: int, settings: TrainingSettings) -> float:
    """Prepare the optimizer of `build_optimizer` for a step, counted from 1.

    torch's Adam always divides its means by 1 - beta ** step. The reference code does not; that is
    the same as another learning rate and epsilon, by which the correction cancels out.

    Returns:
        The learning rate as the schedule has it.
    """
    rate = effective = learning_rate(step, settings)
    epsilon = settings.epsilon
    if not settings.bias_correction:
        root = math.sqrt(1.0 - settings.beta2**step)
        effective = rate * (1.0 - settings.beta1**step) / root
        epsilon = settings.epsilon / root
    matrices, vectors = optimizer.param_groups
    for group in (matrices, vectors):
        group["lr"], group["eps"] = effective, epsilon
    matrices["weight_decay"] = settings.weight_decay * rate / effective
    vectors["weight_decay"] = 0.0
    return rate


def learning_rate(step: int, settings: TrainingSettings) -> float:
    """Learning rate of a step, counted from 1: up to the peak, then down towards 0.

    Both parts are straight lines; the last step still has a rate above 0.
    """
    warmup = round(settings.warmup_share * settings.steps)
    if step <= warmup:
        return settings.learning_rate * step / warmup
    return settings.learning_rate * (settings.steps - step + 1) / (settings.steps - warmup)
