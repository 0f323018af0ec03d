"""Any BERT becomes a Hugging Face directory, complete or not at all."""

from __future__ import annotations

import json
import shutil
import warnings
from pathlib import Path

import pytest
import spacy
import torch
from safetensors.torch import load_file, save_file
from spacy.language import Language
from spacy.training import Example
from transformers import AutoTokenizer, BertTokenizerFast
from transformers import BertConfig as HfConfig
from transformers import BertForPreTraining as HfForPreTraining
from transformers import BertModel as HfModel

from spacy_bert.bert import BertConfig, BertModel, load_encoder, load_pretraining, save_pretrained
from spacy_bert.models.conversion import Conversion, convert
from spacy_bert.models.encoder import build_encoder, encoder_shim
from spacy_bert.wordpiece import WordPiece
from tests.bert.reference import padded, random_sequences
from tests.bert.tensor_bundle import write_google
from tests.bert.test_checkpoint import assert_same
from tests.conftest import SENTENCES
from tests.weights import MINILM, RXNFP, needs_minilm, needs_rxnfp

FILES = [
    "config.json",
    "model.safetensors",
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.txt",
]


@pytest.fixture
def google(tmp_path: Path, checkpoint: Path, wordpiece: WordPiece) -> Path:
    """The checkpoint of conftest as Google would have it."""
    write_google(tmp_path / "google", load_pretraining(checkpoint), wordpiece)
    return tmp_path / "google"


def hf_load(kind: type, path: Path):
    """A model of `transformers`, of which nothing may be missing or drawn afresh."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model, report = kind.from_pretrained(path, output_loading_info=True)
    assert not report["missing_keys"]
    assert not report["mismatched_keys"]
    return model.eval()


def test_google_to_hugging_face(
    google: Path, checkpoint: Path, wordpiece: WordPiece, tmp_path: Path
) -> None:
    done = convert(google, tmp_path / "out")
    model = load_pretraining(checkpoint)
    assert done == Conversion(
        config=model.config,
        parameters=sum(p.numel() for p in model.parameters()),
        heads=True,
        pooler=True,
        pieces=len(wordpiece),
        cased=False,
        left_behind=[],
    )
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == FILES
    assert (tmp_path / "out" / "model.safetensors").stat().st_mode == (
        google / "vocab.txt"
    ).stat().st_mode
    assert (tmp_path / "out").stat().st_mode == google.stat().st_mode
    assert_same(load_pretraining(tmp_path / "out"), model)
    theirs = hf_load(HfForPreTraining, tmp_path / "out")
    assert theirs.config.max_position_embeddings == 64
    hf_load(HfModel, tmp_path / "out")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    assert tokenizer.model_max_length == 64
    (expected,) = WordPiece.load(checkpoint).encode_ids(SENTENCES[3:4])
    assert tokenizer(SENTENCES[3], add_special_tokens=False).input_ids == expected.tolist()


def test_a_pipeline_takes_googles_directory_as_it_is(google: Path, checkpoint: Path) -> None:
    model = build_encoder(name=str(google))
    model.initialize()
    assert_same(encoder_shim(model).network, load_encoder(checkpoint))


def test_sharded_pickled_and_old_spellings(checkpoint: Path, tmp_path: Path) -> None:
    source = shutil.copytree(checkpoint, tmp_path / "source")
    tensors = load_file(source / "model.safetensors")
    (source / "model.safetensors").unlink()
    torch.save({f"module.{name}": t for name, t in tensors.items()}, source / "pytorch_model.bin")
    convert(source, tmp_path / "from pickle")
    (source / "pytorch_model.bin").unlink()
    names = sorted(tensors)
    shards = {name: f"model-0000{i % 2}.safetensors" for i, name in enumerate(names)}
    for shard in set(shards.values()):
        save_file({n: tensors[n] for n in names if shards[n] == shard}, source / shard)
    index = source / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": shards}))
    convert(source, tmp_path / "from shards")
    expected = (checkpoint / "model.safetensors").read_bytes()
    for output in ("from pickle", "from shards"):
        assert (tmp_path / output / "model.safetensors").read_bytes() == expected


def test_an_encoder_without_heads(checkpoint: Path, tmp_path: Path) -> None:
    source = shutil.copytree(checkpoint, tmp_path / "source")
    tensors = load_file(source / "model.safetensors")
    del tensors["cls.seq_relationship.weight"], tensors["cls.seq_relationship.bias"]
    tensors["classifier.bias"] = torch.zeros(3)
    save_file(tensors, source / "model.safetensors")
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # nothing is drawn afresh
        done = convert(source, tmp_path / "out")
    assert (done.heads, done.pooler) == (False, True)
    assert done.left_behind == [
        "classifier.bias",
        "cls.predictions.bias",
        "cls.predictions.transform.LayerNorm.bias",
        "cls.predictions.transform.LayerNorm.weight",
        "cls.predictions.transform.dense.bias",
        "cls.predictions.transform.dense.weight",
    ]
    assert_same(load_encoder(tmp_path / "out"), load_encoder(checkpoint))
    hf_load(HfModel, tmp_path / "out")


def test_layers_that_the_configuration_does_not_count_are_told(
    checkpoint: Path, tmp_path: Path
) -> None:
    source = shutil.copytree(checkpoint, tmp_path / "source")
    config = json.loads((source / "config.json").read_text()) | {"num_hidden_layers": 1}
    (source / "config.json").write_text(json.dumps(config))
    done = convert(source, tmp_path / "out")
    assert len(done.left_behind) == 16
    assert all(name.startswith("bert.encoder.layer.1.") for name in done.left_behind)


def test_an_encoder_without_pooler(checkpoint: Path, tmp_path: Path, wordpiece: WordPiece) -> None:
    model = BertModel(load_encoder(checkpoint).config, pooler=False)
    save_pretrained(model, tmp_path / "source")
    wordpiece.save(tmp_path / "source")
    done = convert(tmp_path / "source", tmp_path / "out")
    assert (done.heads, done.pooler, done.left_behind) == (False, False, [])
    _, report = HfModel.from_pretrained(
        tmp_path / "out", add_pooling_layer=False, output_loading_info=True
    )
    assert not report["missing_keys"]


class TestCase:
    """Whether case matters, for a vocabulary of which no file tells."""

    @pytest.fixture
    def cased(self, tmp_path: Path) -> Path:
        """A cased checkpoint as Google would have it."""
        wordpiece = WordPiece.train(SENTENCES * 4, vocab_size=200, lowercase=False)
        torch.manual_seed(0)
        config = BertConfig.preset("tiny", vocab_size=len(wordpiece), max_position_embeddings=64)
        save_pretrained(BertModel(config), tmp_path / "cased")
        (tmp_path / "cased" / "vocab.txt").write_text("\n".join(wordpiece.tokens))
        return tmp_path / "cased"

    def test_capital_letters_make_a_vocabulary_cased(self, cased: Path, tmp_path: Path) -> None:
        assert convert(cased, tmp_path / "out").cased is True
        ours = WordPiece.load(tmp_path / "out")
        reference = BertTokenizerFast(str(cased / "vocab.txt"), do_lower_case=False)
        for text in SENTENCES:
            expected = reference(text, add_special_tokens=False).input_ids
            assert ours.encode_ids([text])[0].tolist() == expected
            assert WordPiece.load(cased).encode_ids([text])[0].tolist() == expected

    def test_the_caller_goes_before_the_files(self, cased: Path, tmp_path: Path) -> None:
        assert convert(cased, tmp_path / "out", cased=False).cased is False
        assert convert(tmp_path / "out", tmp_path / "kept").cased is False
        assert convert(tmp_path / "out", tmp_path / "back", cased=True).cased is True

    def test_the_settings_go_before_the_letters(self, cased: Path, tmp_path: Path) -> None:
        (cased / "tokenizer_config.json").write_text('{"do_lower_case": true}')
        assert convert(cased, tmp_path / "out").cased is False

    def test_a_word_in_capitals_alone_does_not(self, google: Path, tmp_path: Path) -> None:
        tokens = (google / "vocab.txt").read_text(encoding="utf8").split("\n")
        tokens[-3:-1] = ["MENTION", "ℝ"]  # no lowercase letter belongs to this one
        (google / "vocab.txt").write_text("\n".join(tokens), encoding="utf8")
        assert convert(google, tmp_path / "out").cased is False

    def test_another_normalizer_has_no_case_to_choose(
        self, checkpoint: Path, tmp_path: Path
    ) -> None:
        source = shutil.copytree(checkpoint, tmp_path / "source")
        tokenizer = json.loads((source / "tokenizer.json").read_text(encoding="utf8"))
        tokenizer["normalizer"] = {"type": "NFC"}
        (source / "tokenizer.json").write_text(json.dumps(tokenizer))
        assert convert(source, tmp_path / "out").cased is None
        with pytest.raises(ValueError, match=r"tokenizer\.json: its normalizer is not BERT's"):
            convert(source, tmp_path / "other", cased=True)


class TestPipelines:
    """The encoder of a saved pipeline."""

    @pytest.fixture
    def nlp(self, checkpoint: Path) -> Language:
        nlp = spacy.blank("en")
        encoder = {"@architectures": "spacy_bert.Encoder.v1", "name": str(checkpoint)}
        nlp.add_pipe("bert", config={"model": encoder})
        nlp.add_pipe("sentencizer")
        nlp.initialize()
        with torch.no_grad():
            for parameter in encoder_shim(nlp.get_pipe("bert").model).network.parameters():
                parameter.add_(1)
        return nlp

    def test_its_weights_not_those_it_began_with(
        self, nlp: Language, checkpoint: Path, tmp_path: Path
    ) -> None:
        nlp.to_disk(tmp_path / "pipeline")
        done = convert(tmp_path / "pipeline", tmp_path / "out")
        assert (done.heads, done.pooler, done.cased) == (False, True, False)
        trained = encoder_shim(nlp.get_pipe("bert").model).network
        assert_same(load_encoder(tmp_path / "out"), trained)
        hf_load(HfModel, tmp_path / "out")
        for name in ("vocab.txt", "tokenizer.json", "tokenizer_config.json"):
            expected = (checkpoint / name).read_text(encoding="utf8")
            if name == "tokenizer_config.json":
                expected = expected.replace("512", "64")
            assert (tmp_path / "out" / name).read_text(encoding="utf8") == expected

    def test_one_of_several_and_other_components_are_not_loaded(
        self, nlp: Language, checkpoint: Path, tmp_path: Path
    ) -> None:
        encoder = {"@architectures": "spacy_bert.Encoder.v1", "name": str(checkpoint)}
        nlp.add_pipe("transformer", name="second", config={"model": encoder})
        nlp.get_pipe("second").model.initialize()
        nlp.to_disk(tmp_path / "pipeline")
        config = (tmp_path / "pipeline" / "config.cfg").read_text()
        config = config.replace('factory = "sentencizer"', 'factory = "not installed here"')
        (tmp_path / "pipeline" / "config.cfg").write_text(config)
        with pytest.raises(ValueError, match=r"several .*choose --component bert or second$"):
            convert(tmp_path / "pipeline", tmp_path / "out")
        with pytest.raises(ValueError, match="no component 'sentencizer' with an encoder of its"):
            convert(tmp_path / "pipeline", tmp_path / "out", component="sentencizer")
        convert(tmp_path / "pipeline", tmp_path / "out", component="second")
        assert_same(load_encoder(tmp_path / "out"), load_encoder(checkpoint))

    def test_an_encoder_inside_another_component(self, nlp: Language, tmp_path: Path) -> None:
        listener = {
            "@architectures": "spacy-transformers.TransformerListener.v1",
            "grad_factor": 1.0,
            "pooling": {"@layers": "reduce_mean.v1"},
            "upstream": "bert",
        }
        tagger = {"@architectures": "spacy.Tagger.v2", "tok2vec": listener}
        examples = [Example.from_dict(nlp.make_doc("dog"), {"tags": ["N"]})]
        nlp.add_pipe("tagger", config={"model": tagger}).initialize(lambda: examples, nlp=nlp)
        trained = encoder_shim(nlp.get_pipe("bert").model).network
        nlp.replace_listeners("bert", "tagger", ["model.tok2vec"])
        nlp.remove_pipe("bert")
        nlp.to_disk(tmp_path / "pipeline")
        convert(tmp_path / "pipeline", tmp_path / "out")
        assert_same(load_encoder(tmp_path / "out"), trained)

    def test_mistakes(self, nlp: Language, tmp_path: Path, checkpoint: Path) -> None:
        nlp.to_disk(tmp_path / "pipeline")
        with pytest.raises(ValueError, match="saved pipeline, whose tokenizer fixes the case"):
            convert(tmp_path / "pipeline", tmp_path / "out", cased=True)
        with pytest.raises(ValueError, match="is no saved pipeline; leave --component out"):
            convert(checkpoint, tmp_path / "out", component="bert")
        nlp.remove_pipe("bert")
        nlp.to_disk(tmp_path / "other")
        with pytest.raises(ValueError, match=r"no component has an encoder of .* are sentencizer$"):
            convert(tmp_path / "other", tmp_path / "out")
        assert not (tmp_path / "out").exists()


class TestOutput:
    """What stands at the output is safe."""

    def test_it_is_replaced_only_when_asked(self, checkpoint: Path, tmp_path: Path) -> None:
        out = tmp_path / "out"
        out.mkdir()
        convert(checkpoint, out)
        (out / "pytorch_model.bin").touch()
        with pytest.raises(FileExistsError, match="is not empty; name another, or give"):
            convert(checkpoint, out)
        convert(checkpoint, out, overwrite=True)
        assert sorted(file.name for file in out.iterdir()) == FILES
        assert [path.name for path in tmp_path.iterdir()] == ["out"]

    def test_only_a_checkpoint_is_replaced(self, google: Path, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        (tmp_path / "home").mkdir()
        (tmp_path / "home" / "letter.txt").touch()
        for output, message in {
            "file": "is a file; name a directory",
            "home": "holds files but no config.json: not a checkpoint",
            "google": "holds the source itself",
            ".": "holds the source itself",
        }.items():
            with pytest.raises(FileExistsError, match=message):
                convert(google, tmp_path / output, overwrite=True)
        assert (tmp_path / "home" / "letter.txt").exists()

    @pytest.mark.parametrize("there", [True, False])
    def test_a_failure_leaves_what_was_there(
        self, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, there: bool
    ) -> None:
        out = tmp_path / "out"
        if there:
            convert(checkpoint, out)

        def fail(*_: object, **__: object) -> None:
            raise OSError("No space left on device")

        monkeypatch.setattr(WordPiece, "save", fail)
        with pytest.raises(OSError, match="No space left"):
            convert(checkpoint, out, overwrite=True)
        assert [path.name for path in tmp_path.iterdir()] == (["out"] if there else [])
        if there:
            assert_same(load_encoder(out), load_encoder(checkpoint))

    def test_a_failed_renaming_brings_the_old_one_back(
        self, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        out = tmp_path / "out"
        convert(checkpoint, out)
        rename = Path.rename

        def fail(self: Path, target: Path) -> Path:
            if target == out and not self.name.endswith(".old"):
                raise OSError("no such luck")
            return rename(self, target)

        monkeypatch.setattr(Path, "rename", fail)
        with pytest.raises(OSError, match="no such luck"):
            convert(checkpoint, out, overwrite=True)
        assert [path.name for path in tmp_path.iterdir()] == ["out"]
        assert_same(load_encoder(out), load_encoder(checkpoint))


def test_a_vocabulary_that_does_not_belong_is_refused(
    google: Path, wordpiece: WordPiece, tmp_path: Path
) -> None:
    with (google / "vocab.txt").open("a", encoding="utf8") as file:
        file.write("more\n")
    with pytest.raises(ValueError, match=rf"the network embeds only {len(wordpiece)} \(vocab"):
        convert(google, tmp_path / "out")
    (google / "vocab.txt").unlink()
    with pytest.raises(ValueError, match=r"holds neither tokenizer\.json nor vocab\.txt"):
        convert(google, tmp_path / "out")


@needs_rxnfp
def test_real_pickled_weights_give_the_same_logits(tmp_path: Path) -> None:
    assert RXNFP is not None
    done = convert(RXNFP, tmp_path / "out")
    assert (done.heads, done.cased, done.left_behind) == (True, True, [])
    converted = hf_load(HfForPreTraining, tmp_path / "out")
    original = HfForPreTraining(HfConfig.from_pretrained(RXNFP))
    state = torch.load(RXNFP / "pytorch_model.bin", weights_only=True)
    missing, _ = original.load_state_dict(state, strict=False)
    assert not [name for name in missing if "position_ids" not in name and "decoder" not in name]
    inputs = padded(*random_sequences(8, longest=200, vocab=done.config.vocab_size, seed=0))
    with torch.inference_mode():
        found, expected = converted(**inputs), original.eval()(**inputs)
    for name in ("prediction_logits", "seq_relationship_logits"):
        torch.testing.assert_close(found[name], expected[name], atol=1e-4, rtol=0)


@needs_minilm
def test_a_real_encoder_gives_the_same_states(tmp_path: Path) -> None:
    assert MINILM is not None
    done = convert(MINILM, tmp_path / "out")
    assert (done.heads, done.pooler, done.cased, done.left_behind) == (False, True, False, [])
    converted, original = hf_load(HfModel, tmp_path / "out"), hf_load(HfModel, MINILM)
    for (name, one), other in zip(
        converted.state_dict().items(), original.state_dict().values(), strict=True
    ):
        assert torch.equal(one, other), name
    ours, theirs = (BertTokenizerFast.from_pretrained(path) for path in (tmp_path / "out", MINILM))
    assert ours(SENTENCES).input_ids == theirs(SENTENCES, truncation=False).input_ids


def test_16_bits_are_half_the_size_and_rounded_alone(checkpoint: Path, tmp_path: Path) -> None:
    convert(checkpoint, tmp_path / "fp32")
    convert(checkpoint, tmp_path / "bf16", bf16=True)
    sizes = [(tmp_path / name / "model.safetensors").stat().st_size for name in ("fp32", "bf16")]
    assert sizes[1] < 0.55 * sizes[0]
    assert {t.dtype for t in load_file(tmp_path / "bf16" / "model.safetensors").values()} == {
        torch.bfloat16
    }
    before, after = (load_pretraining(tmp_path / name).state_dict() for name in ("fp32", "bf16"))
    for name, tensor in before.items():
        assert torch.equal(after[name], tensor.bfloat16().float()), name
    hf = hf_load(HfForPreTraining, tmp_path / "bf16")
    weight = hf.bert.embeddings.word_embeddings.weight
    assert torch.equal(weight.float(), after["bert.embeddings.piece.weight"])


def test_16_bits_are_for_directories(checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="--bf16"):
        convert(checkpoint, tmp_path / "weights.bin", bf16=True)
    assert not list(tmp_path.glob("weights*"))
