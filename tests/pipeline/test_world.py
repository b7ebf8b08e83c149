"""What the world does to a run (full disks, damaged and odd files) is one line and exit code 2."""

import importlib.util
import json
import os
import re
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from negrl.cli import main
from tests.pipeline.helpers import TINY, Ran

pytestmark = pytest.mark.slow
Negrl = Callable[..., str]


@pytest.fixture
def refused(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Negrl:
    """The command line's only line on stderr; it ends with exit code 2."""

    def call(*args: object) -> str:
        monkeypatch.setattr(sys, "argv", ["negrl", *map(str, args)])
        with pytest.raises(SystemExit) as ended:
            main()
        said = capsys.readouterr().err.strip().splitlines()
        assert ended.value.code == 2 and len(said) == 1, said
        return said[0]

    return call


@pytest.fixture
def ran(first: Ran, tmp_path: Path) -> Path:
    shutil.copytree(first.folder, tmp_path / "run")
    return tmp_path / "run"


def of(folder: Path, stage: str, name: str) -> Path:
    return sorted((folder / "stages").glob(f"{stage}-*"))[0] / name


def stages_is_a_file(folder: Path) -> None:
    shutil.rmtree(folder / "stages")
    (folder / "stages").write_text("")


def locks_is_a_file(folder: Path) -> None:
    of(folder, "verify", "stage.json").unlink()
    shutil.rmtree(folder / "stages" / ".locks")
    (folder / "stages" / ".locks").write_text("")


def no_model(folder: Path) -> None:
    shutil.rmtree(of(folder, "start", "model"))


def short_weights(folder: Path) -> None:
    path = of(folder, "base", "model/model.safetensors")
    path.write_bytes(path.read_bytes()[:-100])


def odd_log(folder: Path) -> None:
    of(folder, "train", "log.jsonl").write_text("{}")


def odd_stage_json(folder: Path) -> None:
    of(folder, "verify", "stage.json").write_text("[1]")


def odd_seconds(folder: Path) -> None:
    of(folder, "verify", "stage.json").unlink()
    of(folder, "verify", "seconds.json").write_text("[1")


def odd_pin(folder: Path) -> None:
    for name in ("stage.json", "traces-00001.parquet"):
        of(folder, "sample", name).unlink()
    of(folder, "sample", "shard_size.pin").write_text("four")


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (stages_is_a_file, "stages' is a file, expected a folder"),
        (locks_is_a_file, "stages' cannot be written: File exists"),
        (no_model, "model/config.json: missing; to train again remove the folder"),
        (short_weights, "model/model.safetensors: damaged"),
        (odd_log, "log.jsonl: damaged"),
        (odd_stage_json, "stage.json: damaged; remove it and run again"),
        (odd_seconds, "seconds.json: damaged, expected a number of seconds; remove it"),
        (odd_pin, "shard_size.pin: damaged; remove the folder"),
    ],
)
def test_a_damaged_store(ran: Path, refused: Negrl, damage: Callable[[Path], None], says: str) -> None:
    damage(ran)
    assert says in refused("run", TINY, f"output_dir={ran}")


def change(name: str, text: str | bytes) -> Callable[[Path], None]:
    return lambda model: (model / name).write_bytes(text if isinstance(text, bytes) else text.encode()) and None


def truncated(model: Path) -> None:
    path = model / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1])


def large_header(model: Path) -> None:
    path = model / "model.safetensors"
    path.write_bytes((1 << 60).to_bytes(8, "little") + path.read_bytes()[8:])


def nan(model: Path) -> None:
    weights = load_file(model / "model.safetensors")
    name = next(iter(weights))
    weights[name] = torch.full_like(weights[name], float("nan"))
    save_file(weights, model / "model.safetensors", {"format": "pt"})


def configured(**values: Any) -> Callable[[Path], None]:
    def edit(model: Path) -> None:
        config = json.loads((model / "config.json").read_text())
        (model / "config.json").write_text(json.dumps({**config, **values}))

    return edit


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (truncated, "model.safetensors' is damaged: it has"),
        (large_header, "model.safetensors' is damaged: its header would have"),
        (change("model.safetensors", b""), "is damaged: its header would have"),
        (
            change("model.safetensors", b"\2\0\0\0\0\0\0\0[]"),
            "is damaged: its header is not that of a safetensors file",
        ),
        (nan, "not finite"),
        (change("config.json", "[]"), "config.json' must hold an object, not a list"),
        (change("config.json", "[" * 100_000), "config.json' is not valid JSON"),
        (change("config.json", "{}"), "Should have a `model_type` key"),
        (configured(model_type="llamma"), "llamma"),
        (configured(max_position_embeddings="64"), "max_position_embeddings in its config is '64', no length"),
        (configured(hidden_size="x"), "policy.model: "),
        (change("tokenizer.json", "{}"), "tokenizer of"),
        (change("tokenizer_config.json", "[]"), "tokenizer of"),
        (change("chat_template.jinja", "{% for x in %}"), "the model's chat template can't be rendered: "),
        (change("chat_template.jinja", "{{ messages.nothing.here }}"), "the model's chat template can't be rendered: "),
    ],
)
def test_a_damaged_model(first: Ran, refused: Negrl, tmp_path: Path, damage: Callable[[Path], None], says: str) -> None:
    model = tmp_path / "model"
    shutil.copytree(of(first.folder, "base", "model"), model)
    damage(model)
    given = ["policy.build=null", "policy.start=null", f"policy.model={model}"]
    given += ["policy.chat_template=true"] * (model / "chat_template.jinja").exists()
    assert says in refused("run", TINY, f"output_dir={tmp_path}/run", *given, "--until", "sample")


def test_recipes(refused: Negrl, tmp_path: Path) -> None:
    deep = tmp_path / "deep.yaml"
    deep.write_text("name: " + "[" * 3000 + "]" * 3000)
    assert refused("run", deep) == f"negrl: {deep}: nested too deep; a recipe has a few levels"
    assert "name: has a NUL character" in refused("run", TINY, r'name="a\0b"')
    assert "problems.source" in refused("run", TINY, r'problems.source="a\0b"')
    assert "nested too deep" in refused("run", TINY, "name=" + "[" * 3000 + "]" * 3000)


def test_vllm_is_missing(refused: Negrl, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: None if name == "vllm" else real(name, *a))
    arms = "arms={a: {method: step_grpo, use_vllm: true, rounds: 1}}"
    line = refused("run", TINY, f"output_dir={tmp_path}/run", arms, "train={}")
    assert line.startswith("negrl: arms.a: ") and "use_vllm: vLLM is not installed" in line


@contextmanager
def at_most(size: int) -> Iterator[None]:
    """No file may grow beyond `size` bytes: fails as a full disk does."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize(
    ("again", "size", "says"),
    [
        ("train", 60_000, "cannot be written: "),  # the model
        ("train", 5_000, "File too large"),  # its rows
        ("sample", 5_000, "parquet: cannot be written: File too large"),
        ("verify", 200, "cannot be written: File too large"),
    ],
)
def test_no_room(
    ran: Path, first: Ran, tiny: Callable[..., Ran], refused: Negrl, again: str, size: int, says: str
) -> None:
    stages = {path.name for path in (ran / "stages").glob("*-*")}
    for folder in (ran / "stages").glob(f"{again}-*"):
        shutil.rmtree(folder)
    with at_most(size):
        line = refused("run", TINY, f"output_dir={ran}")
    assert says in line and str(ran) in line
    assert not list(ran.rglob("*.tmp")) and not list(ran.rglob(".*.tmp"))
    assert tiny(ran).results["arms"].keys() == first.results["arms"].keys()
    assert {path.name for path in (ran / "stages").glob("*-*")} == stages


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """No file in it can be written: root, whom permissions do not stop, needs a mount."""
    if os.geteuid():
        folders = [folder, *(path for path in folder.rglob("*") if path.is_dir())]
        for path in folders:
            path.chmod(0o500)
        try:
            yield
        finally:
            for path in folders:
                path.chmod(0o700)
        return
    if subprocess.run(["mount", "--bind", folder, folder], capture_output=True).returncode:
        pytest.skip("as root a read-only folder takes a mount, and this root may not mount")
    try:
        subprocess.run(["mount", "-o", "remount,bind,ro", folder], check=True)
        yield
    finally:
        subprocess.run(["umount", folder], check=True)


def test_a_read_only_store(ran: Path, first: Ran, tiny: Callable[..., Ran], refused: Negrl, tmp_path: Path) -> None:
    """It is read as long as it has what is needed; then the run ends, and what is finished is kept."""
    store, other = ran / "stages", f"output_dir={tmp_path / 'other'}"
    with read_only(store):
        assert tiny(tmp_path / "other", f"store={store}").results["arms"].keys() == first.results["arms"].keys()
    for folder in store.glob("verify-*"):
        shutil.rmtree(folder)
    before = {path: path.read_bytes() for path in store.rglob("*") if path.is_file()}
    with read_only(store):
        line = refused("run", TINY, other, f"store={store}")
    assert re.fullmatch(rf"negrl: store: '{store}' cannot be written: (Read-only file system|Permission denied)", line)
    with read_only(ran):
        assert "output_dir: can't use " in refused("run", TINY, f"output_dir={ran}")
    assert {path: path.read_bytes() for path in store.rglob("*") if path.is_file()} == before
    assert tiny(tmp_path / "other", f"store={store}").results["arms"].keys() == first.results["arms"].keys()


def test_a_full_disk(ran: Path, refused: Negrl, monkeypatch: pytest.MonkeyPatch) -> None:
    of(ran, "verify", "stage.json").unlink()

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    assert refused("run", TINY, f"output_dir={ran}").endswith("cannot be written: No space left on device")


def test_stale_temporary_files_are_cleared(ran: Path, tiny: Callable[..., Ran]) -> None:
    verify = of(ran, "verify", ".traces-00000.parquet.999.tmp")
    for path in (verify, ran / ".recipe.yaml.999.tmp"):
        path.write_bytes(b"half")
    of(ran, "verify", "stage.json").unlink()
    tiny(ran)
    assert not list(ran.rglob(".*.tmp"))
