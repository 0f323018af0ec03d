"""The network: pure torch, packed batches, Hugging Face checkpoints."""

from spacy_bert.bert.checkpoint import load_config, load_encoder, load_pretraining, save_pretrained
from spacy_bert.bert.config import BertConfig
from spacy_bert.bert.encoder import BertModel, EncoderOutput, Pooler
from spacy_bert.bert.heads import BertForPreTraining, PreTrainingOutput
from spacy_bert.bert.packed import PackedBatch, positions_of, ranges

__all__ = [
    "BertConfig",
    "BertForPreTraining",
    "BertModel",
    "EncoderOutput",
    "PackedBatch",
    "Pooler",
    "PreTrainingOutput",
    "load_config",
    "load_encoder",
    "load_pretraining",
    "positions_of",
    "ranges",
    "save_pretrained",
]
