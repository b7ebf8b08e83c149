"""Shards survive kills, rows come back as they were, fingerprints notice every change."""

from pathlib import Path

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
    with pytest.raises(InputError, match=r"sample-k/traces-00000.parquet: not a whole Parquet file; remove it"):
        stage.read("traces", Trace)
    (stage.path / "stage.json").write_text('{"seconds": 1')
    with pytest.raises(InputError, match=r"sample-k/stage.json: damaged; remove it"):
        stage.info()


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
