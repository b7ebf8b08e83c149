"""What identifies a model: its content, and nothing else."""

from __future__ import annotations

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


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    section = BuildSection(hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2)
    folder = tmp_path_factory.mktemp("policy") / "m"
    build_model(section, build_tokenizer(section, ["1+2=3"]), folder)
    return folder


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
    for text in ("{}", '{"a": 1}'):  # there or changed at the same size
        path.write_text(text)
        seen.add(key(model))
    path.write_text('{"a": 2}')
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
