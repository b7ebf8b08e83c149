"""Whatever is deleted or changed in a finished run: the same rows again, or one line."""

import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from negrl.errors import InputError
from tests.pipeline.helpers import Ran

pytestmark = pytest.mark.slow
Tiny = Callable[..., Ran]


@pytest.fixture
def ran(first: Ran, tmp_path: Path) -> Path:
    """A finished run that a test may damage."""
    shutil.copytree(first.folder, tmp_path / "run")
    return tmp_path / "run"


def shards(folder: Path) -> list[Path]:
    return sorted((folder / "stages").glob("*/*.parquet"))


def tables(folder: Path) -> dict[str, bytes]:
    return {f"{path.parent.name}/{path.name}": path.read_bytes() for path in shards(folder)}


@pytest.mark.parametrize("shard", range(4))
def test_deleted_shards_are_made_again(ran: Path, tiny: Tiny, shard: int) -> None:
    """One of every table of every stage."""
    before = tables(ran)
    gone = [path for path in shards(ran) if path.name.endswith(f"-{shard:05d}.parquet")]
    assert len(gone) >= 8
    for path in gone:
        path.unlink()
    screen = tiny(ran).screen
    assert tables(ran) == before
    folders = {path.parent.name for path in gone}
    assert all(f"{folder}/" in screen for folder in folders) and screen.count("makes it again") == len(folders)
    assert "31 of 31 stages reused" in screen


def test_a_deleted_table_and_its_pin(ran: Path, tiny: Tiny) -> None:
    """Whatever the recipe's size of shards is by now."""
    before = tables(ran)
    for path in (ran / "stages").glob("sample-*/*"):
        if path.suffix in (".parquet", ".pin", ".sum"):
            path.unlink()
    tiny(ran, "sample.shard_size=3")
    assert tables(ran) == before


def test_flipped_bits(ran: Path, tiny: Tiny) -> None:
    """What is read is compared first: a changed dead zone reads the values and makes credit and views again."""
    changed = ("label.dead_zone=0.3", "evaluate.bootstrap=100", "evaluate.confidence=0.9")
    undisturbed = tables(tiny(shutil.copytree(ran, ran.with_name("undisturbed")), *changed).folder)
    draw, flipped = random.Random(0), tables(ran).keys()
    for path in shards(ran):
        data = bytearray(path.read_bytes())
        place = draw.randrange(8 * len(data))
        data[place // 8] ^= 1 << place % 8
        path.write_bytes(data)
    screen = tiny(ran, *changed).screen
    after = tables(ran)
    assert after.keys() == undisturbed.keys() > flipped
    assert all(after[name] == undisturbed[name] for name in after.keys() - flipped)
    read = [name for name in flipped if f"/{name}: damaged (it is not what was written); '" in screen]
    assert {name.split("-")[0] for name in read} == {"sample", "verify", "value", "evaluate"}
    assert all(after[name] == undisturbed[name] for name in read)


def test_a_shard_that_comes_out_otherwise(ran: Path, tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    [path, *_] = (ran / "stages").glob("verify-*/traces-00000.parquet")
    path.unlink()
    monkeypatch.setattr("negrl.pipeline.traces.judge", lambda verifier, rows, golds: list(rows)[1:])
    with pytest.raises(
        InputError, match=rf"{path}: made again, it has SHA-256 \w+, but the finished stage recorded \w+"
    ):
        tiny(ran)
    assert not path.exists()


def test_damaged_weights_are_named(ran: Path, tiny: Tiny) -> None:
    [path] = (ran / "stages").glob("start-*/model/model.safetensors")
    data = bytearray(path.read_bytes())
    data[-3] ^= 4
    path.write_bytes(data)
    with pytest.raises(
        InputError, match=rf"^{path}: damaged .*; to train again remove the folder {path.parent.parent}$"
    ):
        tiny(ran)
    shutil.rmtree(path.parent)
    with pytest.raises(InputError, match=r"model/config.json: missing; to train again remove the folder"):
        tiny(ran)
    shutil.rmtree(path.parent.parent)
    assert "start policy · train" in tiny(ran).titles("✓")
