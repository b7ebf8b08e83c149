"""Shards survive kills, rows come back as they were, fingerprints notice every change."""

import dataclasses
import random
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from negrl.errors import InputError
from negrl.files import write_atomic
from negrl.records import Json, Message, Problem, Rollout, Sampling, Step, Trace, arrow_schema, stable_id, stable_seed
from negrl.store import Store, fingerprint

TRACE = Trace(
    trace_id="t", problem_id="p", round=1, sample_index=0, policy="x", engine="e", sampling=Sampling(seed=7),
    prompt_token_ids=[1, 2], token_ids=[3, 4], logprobs=[-0.5, -0.25], text="a\u2028b</script>", finish_reason="stop",
    meta=Json(line=3),
)  # fmt: skip
PROBLEM = Problem("p", "chain", "train", "MIT", "1+1?", "2", messages=[Message("user", "1+1?")])


@pytest.fixture(params=["local", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    return Store(tmp_path) if request.param == "local" else Store(f"memory://{tmp_path.name}")


def test_rows_come_back_as_they_were(store: Store) -> None:
    stage = store.stage("sample", "k")
    stage.write("traces", 0, Trace, [TRACE])
    stage.write("problems", 0, Problem, [PROBLEM])
    assert stage.read("traces", Trace) == [TRACE]
    assert stage.read("problems", Problem) == [PROBLEM]


def test_shards_are_read_in_order_and_tables_kept_apart(store: Store) -> None:
    stage = store.stage("sample", "k")
    for shard in (10, 2, 0):
        stage.write("rollouts", shard, Rollout, [Rollout(str(shard), "p", "t", 0, [1], [0.0], "correct")])
    stage.write("rollouts_other", 0, Rollout, [])
    assert [r.rollout_id for r in stage.read("rollouts", Rollout)] == ["0", "2", "10"]
    assert stage.has("rollouts", 2) and not stage.has("rollouts", 1)


def test_an_empty_shard_says_that_the_work_was_done(store: Store) -> None:
    stage = store.stage("value", "k")
    stage.write("steps", 0, Step, [])
    assert stage.has("steps", 0) and stage.read("steps", Step) == []


def test_a_stage_is_done_only_when_it_says_so(store: Store) -> None:
    stage = store.stage("sample", "k")
    stage.write("traces", 0, Trace, [TRACE])
    assert not stage.done
    stage.finish({"seconds": 1.5, "notes": []})
    assert stage.done and stage.info() == {"seconds": 1.5, "notes": []}


def test_damaged_files_are_named(tmp_path: Path) -> None:
    stage = Store(tmp_path).stage("sample", "k")
    stage.write("traces", 0, Trace, [TRACE])
    (stage.path / "traces-00000.parquet").write_bytes(b"PAR1 half")
    with pytest.raises(InputError, match=r"sample-k/traces-00000.parquet: damaged .*; run again"):
        stage.read("traces", Trace)
    (stage.path / "traces-00000.sum").unlink()  # as an older negrl left it
    with pytest.raises(InputError, match=r"sample-k/traces-00000.parquet: not a whole Parquet file; remove it"):
        stage.read("traces", Trace)
    (stage.path / "stage.json").write_text('{"seconds": 1')
    with pytest.raises(InputError, match=r"sample-k/stage.json: damaged; remove it"):
        stage.info()


def test_no_flipped_bit_changes_rows(tmp_path: Path) -> None:
    """Each flip is noticed, in a shard, in what was recorded of it and in stage.json."""
    rows = [dataclasses.replace(TRACE, trace_id=str(i), token_ids=list(range(i))) for i in range(40)]
    draw, noticed = random.Random(0), Counter[str]()
    for finished in (False, True):
        stage = Store(tmp_path / str(finished)).stage("sample", "k")
        stage.write("traces", 0, Trace, rows[:20])
        stage.write("traces", 1, Trace, rows[20:])
        info = {"seconds": 1.5, "notes": ["40 traces"]}
        if finished:
            stage.finish(info)
        for path in sorted(stage.path.iterdir()):
            whole = path.read_bytes()
            for place in draw.sample(range(8 * len(whole)), 40):
                damaged = bytearray(whole)
                damaged[place // 8] ^= 1 << place % 8
                path.write_bytes(damaged)
                again = Store(tmp_path / str(finished)).stage("sample", "k")
                try:
                    assert again.read("traces", Trace) == rows, f"bit {place} of {path.name}"
                    assert not finished or again.info() == info, f"bit {place} of {path.name}"
                except InputError as error:
                    noticed[path.name] += str(error).startswith(f"{stage.url}/") and "\n" not in str(error)
            path.write_bytes(whole)
    assert noticed["traces-00000.parquet"] == noticed["traces-00001.parquet"] == 80
    assert noticed["stage.json"] > 20  # the others change nothing but white space


@pytest.mark.parametrize("gone", ["traces-00000.parquet", "traces-00001.parquet"])
def test_a_deleted_shard_is_never_left_out(tmp_path: Path, gone: str) -> None:
    for finished in (False, True):
        stage = Store(tmp_path / str(finished)).stage("sample", "k")
        for shard in (0, 1):
            stage.write("traces", shard, Trace, [TRACE])
        if finished:
            stage.finish({"seconds": 1.5, "notes": []})
        (stage.path / gone).unlink()
        with pytest.raises(InputError, match=rf"{gone}: missing"):
            stage.read("traces", Trace)
        assert stage.lost() == [gone] * finished


def test_what_is_made_again_must_be_what_was_recorded(store: Store) -> None:
    stage = store.stage("sample", "k")
    stage.write("traces", 0, Trace, [TRACE])
    stage.finish({"seconds": 1.5, "notes": []})
    stage.write("traces", 0, Trace, [TRACE])
    other = dataclasses.replace(TRACE, text="other")
    with pytest.raises(
        InputError, match=r"sample-k/traces-00000.parquet: made again, it has SHA-256 \w{64}, .* \w{64}"
    ):
        stage.write("traces", 0, Trace, [other])
    assert stage.read("traces", Trace) == [TRACE]


def test_a_stage_of_an_older_negrl_is_read_as_it_is(tmp_path: Path) -> None:
    stage = Store(tmp_path).stage("sample", "k")
    stage.write("traces", 0, Trace, [TRACE])
    (stage.path / "traces-00000.sum").unlink()
    (stage.path / "stage.json").write_text('{"seconds": 1, "notes": []}')
    assert stage.read("traces", Trace) == [TRACE] and stage.info() == {"seconds": 1, "notes": []}
    assert stage.lost() == []


@pytest.mark.parametrize("text", ["", "[]", "3", "[" * 100_000, '{"notes": 3, "seconds": 1}', '{"notes": []}', "\0"])
def test_an_odd_stage_json_is_one_line(tmp_path: Path, text: str) -> None:
    stage = Store(tmp_path).stage("sample", "k")
    stage.finish({"seconds": 1.5, "notes": []})
    (stage.path / "stage.json").write_text(text)
    with pytest.raises(InputError, match=r"^.*/sample-k/stage.json: damaged; remove it and run again$"):
        Store(tmp_path).stage("sample", "k").info()


@pytest.mark.parametrize("text", ["", "four", "0", "-4", "4.5", "\0"])
def test_an_odd_pin_is_one_line(tmp_path: Path, text: str) -> None:
    stage = Store(tmp_path).stage("sample", "k")
    stage.pinned("shard_size", 4)
    (stage.path / "shard_size.pin").write_text(text)
    with pytest.raises(InputError, match=r"/sample-k/shard_size.pin: damaged; remove the folder"):
        stage.pinned("shard_size", 4)


def test_weights_are_recorded(tmp_path: Path) -> None:
    stage = Store(tmp_path).stage("train", "k")
    write_atomic(stage.path / "model" / "model.safetensors", bytes(2 << 20))
    stage.finish({"seconds": 1.5, "notes": []})
    stage.check_files(whole=True)
    weights = stage.path / "model" / "model.safetensors"
    weights.write_bytes(bytes((2 << 20) - 1) + b"1")
    stage.check_files(whole=False)  # as long as before
    with pytest.raises(InputError, match=r"train-k/model/model.safetensors: damaged .*; to train again remove"):
        stage.check_files(whole=True)
    weights.unlink()
    with pytest.raises(InputError, match=r"train-k/model/model.safetensors: missing; to train again remove"):
        stage.check_files(whole=False)


def test_a_half_written_file_is_never_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_atomic(tmp_path / "f", b"old")

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("os.replace", killed)
    with pytest.raises(KeyboardInterrupt):
        write_atomic(tmp_path / "f", b"new")
    assert (tmp_path / "f").read_bytes() == b"old"


def test_leftover_temporary_files_are_not_rows(tmp_path: Path) -> None:
    stage = Store(tmp_path).stage("sample", "k")
    stage.write("traces", 0, Trace, [TRACE])
    (stage.path / ".traces-00001.parquet.99.tmp").write_bytes(b"half")
    assert len(stage.read("traces", Trace)) == 1


def test_parquet_is_plain(tmp_path: Path) -> None:
    """Anybody's reader gets named, typed columns."""
    stage = Store(tmp_path).stage("sample", "k")
    stage.write("traces", 0, Trace, [TRACE])
    table = pq.read_table(stage.path / "traces-00000.parquet")
    assert table.schema.equals(arrow_schema(Trace))
    assert table.column("sampling").to_pylist()[0]["seed"] == 7


def test_pages_carry_checksums(tmp_path: Path) -> None:
    """So that other readers notice damage, too."""
    stage = Store(tmp_path).stage("sample", "k")
    stage.write("traces", 0, Trace, [TRACE])
    path = stage.path / "traces-00000.parquet"
    whole, said = path.read_bytes(), set()
    for place in random.Random(0).sample(range(4, len(whole) // 2), 60):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        try:
            pq.read_table(path, page_checksum_verification=True)
        except (pa.ArrowException, OSError) as error:
            said.add("CRC" in str(error))
    assert True in said


def test_sizes_and_pins(store: Store) -> None:
    stage = store.stage("sample", "k")
    assert stage.sizes("traces", "token_ids") == (0, 0)
    stage.write("traces", 0, Trace, [TRACE, TRACE])
    stage.write("traces", 1, Trace, [])
    assert stage.sizes("traces", "token_ids") == (2, 4)
    assert stage.pinned("shard_size", 4) == 4
    assert stage.pinned("shard_size", 8) == 4


def test_fingerprints() -> None:
    assert fingerprint({"a": 1, "b": 2}) == fingerprint({"b": 2, "a": 1}) != fingerprint({"a": 1, "b": 3})


def test_ids_and_seeds_do_not_depend_on_the_process() -> None:
    assert stable_id("chain", "9*0?") == "de0ba764b9cdfa4c"
    seeds = {stable_seed("sample", 0, i) for i in range(10_000)}
    assert len(seeds) == 10_000 and all(0 <= s < 2**31 for s in seeds)
