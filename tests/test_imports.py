"""Text to pre-trained network on a machine that has neither spaCy nor thinc."""

from __future__ import annotations

import subprocess
import sys

import pytest

from spacy_bert.bert import load_pretraining
from tests.bert.tensor_bundle import write_google
from tests.pretraining.conftest import make_documents, write_corpus

BLOCKED = """
import sys

class Block:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"spacy", "thinc", "spacy_transformers", "transformers"}:
            raise ImportError(f"{name} is blocked")

sys.meta_path.insert(0, Block())
"""


def run(program: str, *arguments: object) -> str:
    done = subprocess.run(
        [sys.executable, "-c", BLOCKED + program, *map(str, arguments)],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_block_works():
    with pytest.raises(AssertionError, match="spacy is blocked"):
        run("import spacy")


def test_the_lower_layers_import():
    run(
        "import pkgutil, importlib\n"
        "for name in ('bert', 'pretraining'):\n"
        "    package = importlib.import_module(f'spacy_bert.{name}')\n"
        "    for module in pkgutil.iter_modules(package.__path__, package.__name__ + '.'):\n"
        "        importlib.import_module(module.name)\n"
        "import spacy_bert, spacy_bert.files, spacy_bert.wordpiece, spacy_bert.cli.app\n"
        "import spacy_bert.models.conversion"
    )


def test_the_command_line_starts_without_the_heavy_libraries():
    loaded = run(
        "import spacy_bert.cli.app\nprint(*{name.split('.')[0] for name in sys.modules})"
    ).split()
    assert not {"torch", "numpy", "tokenizers", "sklearn", "confection"}.intersection(loaded)


def test_from_text_to_a_pretrained_network(tmp_path):
    corpus = write_corpus(tmp_path / "corpus.txt", make_documents(200))
    config = tmp_path / "pretrain.cfg"
    config.write_text(
        "[model]\nnum_hidden_layers = 1\nhidden_size = 16\nnum_attention_heads = 2\n"
        f'[data]\nshards = "{tmp_path}/shards"\ntokenizer = "{tmp_path}/tokenizer"\n'
        "sequence_length = 32\nbatch_pieces = 256\n"
        '[training]\nsteps = 2\ndevice = "cpu"\n'
    )
    output = run(
        "from spacy_bert.cli.app import app\n"
        "corpus, tokenizer, shards, config, output = sys.argv[1:]\n"
        "for command in (\n"
        "    ['train-tokenizer', corpus, tokenizer, '--vocab-size', '150'],\n"
        "    ['prepare', corpus, shards, '--tokenizer', tokenizer, '--dev-share', '0.3'],\n"
        "    ['pretrain', config, output],\n"
        "):\n"
        "    assert not app(command, standalone_mode=False)\n",
        *(corpus, tmp_path / "tokenizer", tmp_path / "shards", config, tmp_path / "out"),
    )
    assert "dev MLM loss" in output
    assert (tmp_path / "out" / "model-last" / "model.safetensors").is_file()


def test_checkpoints_are_converted(tmp_path, checkpoint, wordpiece):
    write_google(tmp_path / "google", load_pretraining(checkpoint), wordpiece)
    output = run(
        "from spacy_bert.cli.app import app\n"
        "google, first, second = sys.argv[1:]\n"
        "assert not app(['convert', google, first], standalone_mode=False)\n"
        "assert not app(['convert', first, second], standalone_mode=False)\n",
        *(tmp_path / name for name in ("google", "first", "second")),
    )
    assert output.count(f"{len(wordpiece)} pieces, uncased") == 2
    first, second = ((tmp_path / name / "model.safetensors") for name in ("first", "second"))
    assert first.read_bytes() == second.read_bytes()
