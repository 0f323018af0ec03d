"""The optimizer of Devlin et al. 2018, appendix A.2: AdamW, warm-up, linear decay."""

from __future__ import annotations

from torch import nn
from torch.optim import AdamW

from spacy_bert.pretraining.config import TrainingSettings


def build_optimizer(model: nn.Module, settings: TrainingSettings) -> AdamW:
    """AdamW in one fused step, with decay on matrices alone (not on biases and LayerNorm)."""
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    return AdamW(
        [
            {
                "params": [parameter for parameter in parameters if parameter.ndim >= 2],
                "weight_decay": settings.weight_decay,
            },
            {
                "params": [parameter for parameter in parameters if parameter.ndim < 2],
                "weight_decay": 0.0,
            },
        ],
        lr=settings.learning_rate,
        betas=(settings.beta1, settings.beta2),
        eps=settings.epsilon,
        fused=True,
    )


def learning_rate(step: int, settings: TrainingSettings) -> float:
    """Learning rate of a step, counted from 1: up to the peak, then down towards 0.

    Both parts are straight lines; the last step still has a rate above 0.
    """
    warmup = round(settings.warmup_share * settings.steps)
    if step <= warmup:
        return settings.learning_rate * step / warmup
    return settings.learning_rate * (settings.steps - step + 1) / (settings.steps - warmup)
