"""What identifies a model: its content, and nothing else."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from negrl.errors import InputError
from negrl.policy import (
    BuildSection,
    PolicySection,
    build_model,
    build_tokenizer,
    check_model,
    context_length,
    load_tokenizer,
    local_model,
)
from negrl.terminal import safe


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    section = BuildSection(hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2)
    folder = tmp_path_factory.mktemp("policy") / "m"
    build_model(section, build_tokenizer(section, ["1+2=3"]), folder)
    return folder


def test_a_word_is_a_token_wherever_it_stands() -> None:
    texts = ["Ana has 12 + 7 = 19 apples.\n#### 19", "Tom gets 5 from Ana. Then  Ana has 3."]
    tokenizer = build_tokenizer(BuildSection(tokenizer="word", vocab_size=64), texts)
    for text in texts:
        assert tokenizer.decode(tokenizer(text)["input_ids"]) == text
    assert tokenizer.tokenize(texts[0]) == [
        *("Ana ", "has ", "1", "2 ", "+ ", "7 ", "= ", "1", "9 ", "apples", ".", "\n"),
        *("#### ", "1", "9"),
    ]
    assert tokenizer.tokenize("Ana has pears.") == ["Ana ", "has ", "<unk>", "."]
    assert len(build_tokenizer(BuildSection(tokenizer="word", vocab_size=64), ["a b c " * 3] * 9)) == 3 + 3
    few = build_tokenizer(BuildSection(tokenizer="word", vocab_size=64), [" ".join(map(chr, range(97, 123))) * 9] * 9)
    assert len(few) <= 64 and few.unk_token == "<unk>" and few.eos_token_id == 1


@pytest.fixture
def model(built: Path, tmp_path: Path) -> Path:
    return shutil.copytree(built, tmp_path / "m")


def key(model: Path | str) -> str:
    return check_model(PolicySection(model=str(model)))


def test_a_copy_is_the_same_model(built, model) -> None:
    for path in model.iterdir():
        os.utime(path, (0, 0))
    (model / "README.md").write_text("says nothing to the model")
    assert key(model) == key(built)


@pytest.mark.parametrize(
    "name",
    [
        "config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json",
        "added_tokens.json", "chat_template.jinja", "additional_chat_templates/tools.jinja", "vocab.json", "merges.txt",
        "tokenizer.model", "modeling_own.py", "model.safetensors.index.json",
    ],
)  # fmt: skip
def test_every_file_that_is_loaded_counts(name: str, model) -> None:
    path = model / name
    path.parent.mkdir(exist_ok=True)
    seen = {key(model)}
    head = '{"weight_map": {}, ' if name.endswith("index.json") else "{"
    for text in ('"a": 0}', '"a": 1}'):  # there or changed at the same size
        path.write_text(head + text)
        seen.add(key(model))
    path.write_text(head + '"a": 2}')
    assert key(model) not in seen and len(seen) == 3


def change(path: Path, at: int) -> None:
    with path.open("r+b") as handle:
        handle.seek(at)
        byte = handle.read(1)
        handle.seek(at)
        handle.write(bytes([byte[0] ^ 1]))


def zeros(path: Path, size: int) -> int:
    """Weights of `size` bytes, mostly a hole in the file. Returns where the tensor starts."""
    header = b'{"w": {"dtype": "U8", "shape": [%d], "data_offsets": [0, %d]}}'
    length = len(header % (size, size))
    header = (header % (size - 8 - length, size - 8 - length)).ljust(length)
    with path.open("wb") as handle:
        handle.write(length.to_bytes(8, "little") + header)
        handle.truncate(size)
    return 8 + length


def test_one_changed_byte_of_small_weights(model) -> None:
    weights = model / "model.safetensors"
    start = zeros(weights, 5 << 20)
    before = key(model)
    for at in (start, 2_500_000, (5 << 20) - 1):
        change(weights, at)
        assert key(model) != before
        change(weights, at)
    assert key(model) == before


def test_large_weights_are_looked_at_all_over(model) -> None:
    weights = model / "model.safetensors"
    size = 200 << 20
    data = zeros(weights, size)
    before = key(model)
    # A changed tensor of a fifteenth of the file is seen wherever it lies.
    for start in range(0, size, size // 15):
        seen = False
        for at in range(max(start, data), min(start + size // 15, size), 1 << 19):
            change(weights, at)
        seen = key(model) != before
        for at in range(max(start, data), min(start + size // 15, size), 1 << 19):
            change(weights, at)
        assert seen, start
    zeros(weights, size + 1)
    assert key(model) != before


def test_home_is_found_and_loaded(model, monkeypatch) -> None:
    monkeypatch.setenv("HOME", str(model.parent))
    policy = PolicySection(model="~/m")
    assert local_model(policy) == str(model)
    assert check_model(policy) == key(model)
    assert load_tokenizer(local_model(policy), policy).eos_token == "<eos>"
    assert context_length(local_model(policy), policy)
    assert local_model(PolicySection(model="org/name")) == "org/name"


def test_what_is_no_model(model) -> None:
    with pytest.raises(InputError, match=r"policy.model: no folder .*expected a model folder"):
        key(model.parent / "n")
    (model / "config.json").write_text("{")
    with pytest.raises(InputError, match=r"config.json' is not valid JSON"):
        key(model)
    (model / "model.safetensors").rename(model / "pytorch_model.bin")
    (model / "config.json").write_text("{}")
    with pytest.raises(InputError, match=r"pytorch_model\.bin is not loaded"):
        key(model)


@pytest.mark.parametrize(
    "name",
    [
        "pytorch_model.bin", "model.pt", "model.pkl", "model.safetensors.bin", "model.SAFETENSORS",
        "../model.safetensors", "../../etc/model.safetensors", "/tmp/model.safetensors", "sub/model.safetensors",
        "./model.safetensors",
        "sub/../model.safetensors", "..\\model.safetensors", "", ".", "..", ".safetensors/", "a\0.safetensors",
        "a\n.safetensors", "\u202e.safetensors", "http://host/model.safetensors",
        5, None, True, ["model.safetensors"], {},
    ],
)  # fmt: skip
@pytest.mark.parametrize("place", ["map", "config"])
def test_weights_come_from_the_folder_alone(name: object, place: str, model) -> None:
    """Whatever a weight map names is opened, and a pickle runs code."""
    for beside in ("pytorch_model.bin", "model.pt", "model.pkl", "model.safetensors.bin"):
        (model / beside).write_bytes(b"there")
    if place == "map":
        whole = {"metadata": {}, "weight_map": {"a": "model.safetensors", "b": name}}
        (model / "model.safetensors.index.json").write_text(json.dumps(whole))
        words = "weight_map may only name .safetensors files in the model's folder"
    elif name is None:  # null is no name in a config
        return
    else:
        config = json.loads((model / "config.json").read_text())
        (model / "config.json").write_text(json.dumps({**config, "transformers_weights": name}))
        words = "is no .safetensors file in the folder"
    for setting in ("policy.model", "label.prm"):
        with pytest.raises(InputError) as caught:
            check_model(PolicySection(model=str(model)), setting)
        said = str(caught.value)
        assert words in said and said.startswith(f"{setting}: ") and safe(said) == said and len(said) < 600


@pytest.mark.parametrize("text", ["[]", "{}", "5", "null", '{"weight_map": []}', '{"weight_map": null}', "{", "\xff",
                                  "[" * 100_000])  # fmt: skip
def test_weight_maps_that_are_none(text: str, model) -> None:
    (model / "model.safetensors.index.json").write_text(text, encoding="latin-1")
    with pytest.raises(InputError, match=r"^policy.model: '.*model.safetensors.index.json' "):
        key(model)


def test_good_weight_maps(model) -> None:
    index = model / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": "model.safetensors", "b": "model-2.safetensors"}}))
    with pytest.raises(InputError, match=r"names 'model-2\.safetensors', which is not in the folder"):
        key(model)
    # The hub's cache keeps files as links to blobs elsewhere.
    (model.parent / "blob").write_bytes((model / "model.safetensors").read_bytes())
    (model / "model-2.safetensors").symlink_to(model.parent / "blob")
    (model / "pytorch_model.bin.index.json").write_text('{"weight_map": {"a": "pytorch_model-1.bin"}}')  # never loaded
    config = json.loads((model / "config.json").read_text())
    for name in ("model.safetensors", "model.safetensors.index.json", None):
        (model / "config.json").write_text(json.dumps({**config, "transformers_weights": name}))
        assert key(model)


def test_an_adapter_is_no_model(model) -> None:
    (model / "adapter_config.json").write_text('{"base_model_name_or_path": "/elsewhere"}')
    with pytest.raises(InputError, match="holds an adapter"):
        key(model)


@pytest.mark.parametrize("text", ["[]", "5", '"x"', "null", "[" * 100_000])
def test_a_config_is_an_object(text: str, model) -> None:
    (model / "config.json").write_text(text)
    with pytest.raises(InputError, match=r"config.json' (must hold an object|is not valid JSON: nested)"):
        key(model)


def test_a_weight_map_of_the_hub(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    cache = tmp_path / "models--org--name"
    snapshot = cache / "snapshots" / ("a" * 40)
    snapshot.mkdir(parents=True)
    (cache / "refs").mkdir()
    (cache / "refs" / "main").write_text("a" * 40)
    (snapshot / "config.json").write_text("{}")
    (snapshot / "model.safetensors.index.json").write_text('{"weight_map": {"a": "model-1.safetensors"}}')
    assert key("org/name")
    (snapshot / "model.safetensors.index.json").write_text('{"weight_map": {"a": "evil.bin"}}')
    with pytest.raises(InputError, match=r"not 'evil\.bin'"):
        key("org/name")


def test_a_hub_id_is_its_commit(tmp_path, monkeypatch) -> None:
    """A cache as the hub client leaves it, read offline."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    cache = tmp_path / "models--org--name"
    old, new = "a" * 40, "b" * 40
    for commit in (old, new):
        (cache / "snapshots" / commit).mkdir(parents=True)
        (cache / "snapshots" / commit / "config.json").write_text("{}")
    (cache / "refs").mkdir()
    (cache / "refs" / "main").write_text(old)
    before = key("org/name")
    assert check_model(PolicySection(model="org/name", revision=old)) == before
    (cache / "refs" / "main").write_text(new)
    assert key("org/name") != before
    with pytest.raises(InputError, match="can't be downloaded from the hub"):
        key("org/other")
