"""`negrl evaluate` for real: a tiny model, real problems, kill and resume, lost samples, the files it leaves."""

import json
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from huggingface_hub import ModelCard
from huggingface_hub.repocard_data import model_index_to_eval_results

from negrl.errors import InputError
from negrl.evaluate.benchmarks import pick
from negrl.evaluate.run import evaluate
from negrl.evaluate.settings import EvalSettings
from tests import processes

pytestmark = pytest.mark.slow

SETTINGS = EvalSettings(n=2, limit=4, max_tokens=6, shard_size=2, bootstrap=100)


def samples(out: Path, name: str) -> list[dict]:
    (folder,) = out.glob(f"samples/{name}-samples-*")
    return [row for file in sorted(folder.glob("*.parquet")) for row in pq.read_table(file).to_pylist()]


def test_all_benchmarks_for_real(tiny_model: Path, shared_data: Path, tmp_path: Path) -> None:
    names = "gsm8k,svamp,math500,math,aime24,aime25,amc23,minerva,olympiadbench"
    evaluate(str(tiny_model), pick(names), SETTINGS, shared_data, tmp_path / "out")
    found = json.loads((tmp_path / "out" / "results.json").read_text())
    assert list(found["benchmarks"]) == names.split(",")
    for name, entry in found["benchmarks"].items():
        assert entry["counts"]["generated"] == entry["counts"]["scored"] == 8
        assert set(entry["metrics"]) == {"pass@1", "pass@2"}
        drawn = samples(tmp_path / "out", name)
        assert len(drawn) == 8 and sum(len(row["token_ids"]) for row in drawn) == entry["tokens"]["generated"]
        settings = entry["settings"]
        assert settings["n"] == 2 and settings["temperature"] == 0.6 and "{prompt}" in settings["template"]
        assert entry["engine"]["name"].startswith("transformers-") and entry["versions"]["math-verify"]
        assert entry["data"]["fingerprint"] and found["model"]["fingerprint"]
    assert found["benchmarks"]["math500"]["by_level"] and found["benchmarks"]["math500"]["by_subject"]

    card = ModelCard((tmp_path / "out" / "model-index.md").read_text())
    _, back = model_index_to_eval_results(yaml_index(tmp_path / "out"))
    assert {(r.dataset_type, r.metric_type) for r in back} >= {("openai/gsm8k", "pass@1"), ("math-ai/amc23", "pass@2")}
    assert len(back) == 18 and len(card.data.eval_results) == 18
    assert "first 4 problems" in back[0].metric_name  # a part is never shown as the whole


def yaml_index(out: Path) -> list:
    import yaml

    return yaml.safe_load((out / "model-index.md").read_text().strip("-\n"))["model-index"]


def test_a_limit_is_a_part_of_the_whole_and_shards_do_not_matter(
    tiny_model: Path, shared_data: Path, tmp_path: Path
) -> None:
    for name, changed in (("four", {}), ("two", {"limit": 2}), ("shards", {"shard_size": 3})):
        evaluate(str(tiny_model), pick("gsm8k"), SETTINGS.model_copy(update=changed), shared_data, tmp_path / name)
    four, two, shards = (
        [(r["problem_id"], r["token_ids"]) for r in samples(tmp_path / n, "gsm8k")] for n in ("four", "two", "shards")
    )
    assert two == four[:4] and shards == four
    assert four[0][1] != four[1][1]  # samples of one problem differ


def test_killed_it_goes_on(tiny_model: Path, shared_data: Path, tmp_path: Path) -> None:
    command = [
        "-m", "negrl", "evaluate", tiny_model, "--benchmark", "svamp", "--data", shared_data,
        "--limit", "24", "--shard-size", "2", "--n", "1", "--max-tokens", "80", "--out",
    ]  # fmt: skip
    whole, part = tmp_path / "whole", tmp_path / "part"
    process = processes.start(*command, part)
    deadline = time.monotonic() + 120
    while len(shards := list(part.glob("samples/*/samples-*.parquet"))) < 2 and time.monotonic() < deadline:
        assert process.is_alive(), "it ended before it could be killed"
        time.sleep(0.02)
    process.kill()
    process.join()
    assert not (part / "results.json").exists()
    before = {file: file.stat().st_mtime_ns for file in shards}
    for out in (part, whole):
        done = processes.run(*command, out)
        assert done.returncode == 0, done.stderr
    assert {file: file.stat().st_mtime_ns for file in before} == before  # not drawn again
    assert len(list(part.glob("samples/*/samples-*.parquet"))) == 12
    ids = [[(r["trace_id"], r["token_ids"]) for r in samples(out, "svamp")] for out in (part, whole)]
    assert ids[0] == ids[1]
    metrics = [
        json.loads((out / "results.json").read_text())["benchmarks"]["svamp"]["metrics"] for out in (part, whole)
    ]
    assert metrics[0] == metrics[1]


@pytest.mark.parametrize("table", ["samples", "judged"])
def test_a_lost_sample_or_verdict_is_made_again(
    table: str, tiny_model: Path, shared_data: Path, tmp_path: Path
) -> None:
    """Never fewer rows than were recorded: the shard is damaged, and comes out as it was."""
    evaluate(str(tiny_model), pick("gsm8k"), SETTINGS, shared_data, tmp_path)
    found = json.loads((tmp_path / "results.json").read_text())["benchmarks"]["gsm8k"]["metrics"]
    (tmp_path / "results.json").unlink()
    shard = next(tmp_path.glob(f"samples/gsm8k-{table}-*/{table}-00000.parquet"))
    before = shard.read_bytes()
    pq.write_table(pq.read_table(shard).slice(1), shard)
    assert shard.read_bytes() != before
    evaluate(str(tiny_model), pick("gsm8k"), SETTINGS, shared_data, tmp_path)
    assert shard.read_bytes() == before
    assert json.loads((tmp_path / "results.json").read_text())["benchmarks"]["gsm8k"]["metrics"] == found


def test_another_extractor_judges_again_but_draws_nothing(
    tiny_model: Path, shared_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluate(str(tiny_model), pick("gsm8k"), SETTINGS, shared_data, tmp_path)
    import negrl.evaluate.run as run

    monkeypatch.setattr(run, "open_engine", lambda *_: pytest.fail("the engine was opened"))
    again = SETTINGS.model_copy(update={"extract": "last_number"})
    with pytest.raises(InputError, match="holds results of gsm8k with other settings or data"):
        evaluate(str(tiny_model), pick("gsm8k"), again, shared_data, tmp_path)
    evaluate(str(tiny_model), pick("gsm8k"), again, shared_data, tmp_path, force=True)
    entry = json.loads((tmp_path / "results.json").read_text())["benchmarks"]["gsm8k"]
    assert entry["settings"]["extract"] == "last_number"
    assert len(list(tmp_path.glob("samples/gsm8k-judged-*"))) == 2


def test_other_benchmarks_stay_and_another_model_is_refused(
    tiny_model: Path, shared_data: Path, tmp_path: Path
) -> None:
    import shutil

    evaluate(str(tiny_model), pick("aime24"), SETTINGS, shared_data, tmp_path / "out")
    evaluate(str(tiny_model), pick("aime25"), SETTINGS, shared_data, tmp_path / "out")
    assert list(json.loads((tmp_path / "out/results.json").read_text())["benchmarks"]) == ["aime24", "aime25"]
    other = shutil.copytree(tiny_model, tmp_path / "other")
    (other / "generation_config.json").write_text('{"eos_token_id": 5}')
    with pytest.raises(InputError, match="holds results of another model"):
        evaluate(str(other), pick("aime24"), SETTINGS, shared_data, tmp_path / "out")
    before = (tmp_path / "out/results.json").read_bytes()
    for changed in ({"seed": 1}, {"n": 3}, {"limit": 3}, {"temperature": 0.7}, {"extract": "boxed"}):
        with pytest.raises(InputError, match="holds results of aime24 with other settings or data"):
            evaluate(
                str(tiny_model), pick("aime24"), SETTINGS.model_copy(update=changed), shared_data, tmp_path / "out"
            )
    assert (tmp_path / "out/results.json").read_bytes() == before
    faster = SETTINGS.model_copy(update={"workers": 2, "shard_size": 2})
    evaluate(str(tiny_model), pick("aime24"), faster, shared_data, tmp_path / "out")  # its own: goes on
    evaluate(str(other), pick("aime24"), SETTINGS, shared_data, tmp_path / "out", force=True)
    assert list(json.loads((tmp_path / "out/results.json").read_text())["benchmarks"]) == ["aime24"]
    assert not (tmp_path / "out/aime25.problems.jsonl").exists()


@pytest.mark.parametrize(
    ("model", "folder"), [("org/name", "name"), ("/", "model"), ("a/../b", "b"), ("x/.", "x"), ("m/", "m")]
)
def test_the_default_folder_is_inside_runs(model: str, folder: str) -> None:
    import negrl.evaluate.run as run

    assert run._folder_name(model) == folder
    for odd in ("..", "../..", "."):
        assert run._folder_name(odd) not in ("", ".", "..")


def test_mistakes_are_one_line(tiny_model: Path, shared_data: Path, tmp_path: Path) -> None:
    def said(*args: str) -> str:
        done = processes.run("scripts/evaluate.py", *args)
        assert done.returncode == 2 and "Traceback" not in done.stderr, done.stderr
        return done.stderr

    model, data = str(tiny_model), ["--data", str(shared_data)]
    assert "did you mean 'olympiadbench'" in said(model, "--benchmark", "olympiadbnch", *data)
    assert "draws the same sample 4 times" in said(model, "-b", "gsm8k", "--temperature", "0", *data)
    assert "give a model" in said("-b", "gsm8k")


def test_bad_settings_and_prompts(tiny_model: Path, shared_data: Path, tmp_path: Path) -> None:
    import pydantic

    for wrong in ({"n": 0}, {"template": "no place"}, {"system_prompt": "s"}, {"top_p": 0.0}):
        with pytest.raises(pydantic.ValidationError):
            EvalSettings(**wrong)
    with pytest.raises(InputError, match="leaves no room in the model's context"):
        evaluate(str(tiny_model), pick("math500"), SETTINGS.model_copy(update={"few_shot": 20}), shared_data, tmp_path)
    with pytest.raises(InputError, match="has no chat template"):
        evaluate(
            str(tiny_model), pick("aime24"), SETTINGS.model_copy(update={"chat_template": True}), shared_data, tmp_path
        )
