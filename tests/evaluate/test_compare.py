"""Responses from a file, and two results compared: real GSM8K solutions of two models, with labels."""

import json
from pathlib import Path

import pytest

from negrl.errors import InputError
from negrl.evaluate.benchmarks import pick
from negrl.evaluate.compare import compare, write_comparison
from negrl.evaluate.responses import Columns
from negrl.evaluate.results import export_samples, read_results
from negrl.evaluate.run import Given, evaluate
from negrl.evaluate.settings import EvalSettings
from tests import processes

pytestmark = pytest.mark.slow

SETTINGS = EvalSettings(bootstrap=200)
SMALL, LARGE = "6b_finetuning", "175b_verification"


@pytest.fixture(scope="module")
def results(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    file = shared_data / "gsm8k_example_model_solutions.jsonl.gz"
    out = tmp_path_factory.mktemp("compare")
    for name in (SMALL, LARGE):
        given = Given(file, Columns(f"{name}.solution"), name)
        evaluate(None, pick("gsm8k"), SETTINGS, shared_data, out / name, given)
    return {name: out / name for name in (SMALL, LARGE)}


def test_real_responses_score_as_labelled(results: dict[str, Path]) -> None:
    """The file's own labels: 286 and 742 of 1,319 right."""
    for name, right in ((SMALL, 286), (LARGE, 742)):
        entry = read_results(results[name])["benchmarks"]["gsm8k"]
        assert entry["counts"]["correct"] == right and entry["counts"]["scored"] == 1319
        assert entry["metrics"]["pass@1"]["value"] == pytest.approx(right / 1319)


def test_the_larger_model_is_better(results: dict[str, Path], tmp_path: Path) -> None:
    found = compare(results[SMALL], results[LARGE], bootstrap=500)
    pair = found["benchmarks"]["gsm8k"]
    change = pair["metrics"]["pass@1"]["difference"]
    assert change["value"] == pytest.approx((742 - 286) / 1319)
    assert 0 < change["low"] < change["value"] < change["high"] < 0.5
    assert len(pair["gained"]) - len(pair["lost"]) == 742 - 286 and pair["lost"]
    assert all(m["a"] == 0 and m["b"] == 1 for m in pair["gained"])
    # A paired interval is no wider than that of two independent samples.
    assert change["high"] - change["low"] < 2 * 1.96 * (0.25 / 1319 * 2) ** 0.5
    write_comparison(found, tmp_path)
    page = (tmp_path / "compare.md").read_text()
    assert "B better" in page and "gsm8k: lost" in page
    assert json.loads((tmp_path / "compare.json").read_text()) == found


def test_with_itself_there_is_no_difference(results: dict[str, Path]) -> None:
    pair = compare(results[SMALL], results[SMALL], bootstrap=200)["benchmarks"]["gsm8k"]
    assert pair["metrics"]["pass@1"]["difference"] == {"value": 0.0, "low": 0.0, "high": 0.0}
    assert not pair["gained"] and not pair["lost"]


def changed(folder: Path, into: Path, **settings: object) -> Path:
    """A copy of a result whose settings say something else."""
    into.mkdir()
    found = read_results(folder)
    found["benchmarks"]["gsm8k"]["settings"].update(settings)
    (into / "results.json").write_text(json.dumps(found))
    (into / "gsm8k.problems.jsonl").write_bytes((folder / "gsm8k.problems.jsonl").read_bytes())
    return into


def test_what_can_not_be_compared_is_refused(results: dict[str, Path], tmp_path: Path) -> None:
    other = changed(results[SMALL], tmp_path / "other", template="Solve: {prompt}", temperature=1.0, seed=3)
    with pytest.raises(InputError, match=r"temperature \(null and 1.0\); template \(.*\); --force") as refused:
        compare(results[SMALL], other)
    assert "seed" not in str(refused.value)  # another seed is no other measurement
    pair = compare(results[SMALL], other, force=True, bootstrap=100)["benchmarks"]["gsm8k"]
    assert set(pair["differ"]) == {"template", "temperature", "seed"} and len(pair["forced"]) == 2

    lines = (other / "gsm8k.problems.jsonl").read_text().splitlines()
    (other / "gsm8k.problems.jsonl").write_text("\n".join(lines[:100]))
    fewer = changed(results[SMALL], tmp_path / "fewer")
    (fewer / "gsm8k.problems.jsonl").write_text("\n".join(lines[:100]))
    with pytest.raises(InputError, match=r"problems \(1219 only in A, 0 only in B\)"):
        compare(results[SMALL], fewer)
    assert compare(results[SMALL], fewer, force=True, bootstrap=100)["benchmarks"]["gsm8k"]["problems"] == 100


def test_mistakes_of_compare(results: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no results\.json there"):
        compare(results[SMALL], tmp_path)
    with pytest.raises(InputError, match=r"'gsm8' is not in both results.*did you mean 'gsm8k'"):
        compare(results[SMALL], results[LARGE], ["gsm8"])
    (tmp_path / "results.json").write_text('{"benchmarks": []}')
    with pytest.raises(InputError, match=r"not a results\.json"):
        compare(results[SMALL], tmp_path)


def test_on_the_command_line(results: dict[str, Path], tmp_path: Path) -> None:
    command = ("-m", "negrl", "evaluate", "compare", results[SMALL])
    done = processes.run(*command, results[LARGE], "--out", tmp_path / "c")
    assert done.returncode == 0, done.stderr
    assert "gained" in done.stdout and (tmp_path / "c/compare.md").is_file()
    other = changed(results[LARGE], tmp_path / "other", extract="boxed")
    done = processes.run(*command, other)
    assert done.returncode == 2 and 'extract ("auto" and "boxed")' in done.stderr and "Traceback" not in done.stderr


def test_an_export_scores_the_same(results: dict[str, Path], shared_data: Path, tmp_path: Path) -> None:
    file = tmp_path / "samples.jsonl"
    assert export_samples(results[SMALL], "gsm8k", file) == 1319
    given = Given(file, Columns(), "again")
    evaluate(None, pick("gsm8k"), SETTINGS, shared_data, tmp_path / "again", given)
    first, again = (read_results(f)["benchmarks"]["gsm8k"]["counts"] for f in (results[SMALL], tmp_path / "again"))
    assert first == again


def test_responses_are_matched_or_refused(shared_data: Path, tmp_path: Path) -> None:
    rows = [json.loads(line) for line in (shared_data / "amc23.jsonl").read_text().splitlines()]
    file = tmp_path / "r.jsonl"

    def scored(lines: list[dict], **columns: str) -> dict:
        file.write_text("\n".join(map(json.dumps, lines)))
        out = tmp_path / str(len(list(tmp_path.iterdir())))
        evaluate(None, pick("amc23"), SETTINGS, shared_data, out, Given(file, Columns(**columns), "r"))
        return read_results(out)["benchmarks"]["amc23"]

    right = [{"question": r["question"], "response": [f"\\boxed{{{r['answer']}}}", "no idea"]} for r in rows]
    assert scored(right[::-1])["metrics"]["pass@1"]["value"] == 0.5  # in any order, several to a row
    assert scored(right)["metrics"]["pass@2"]["value"] == 1.0
    by_order = [{"response": f"\\boxed{{{r['answer']}}}", "why": "length"} for r in rows]
    assert scored(by_order)["counts"]["correct"] == 40
    assert scored(by_order, finish_reason="why")["rates"]["truncated"] == 1.0
    with pytest.raises(InputError, match="no response for 1 of 40 problems"):
        scored(right[:-1])
    with pytest.raises(InputError, match="39 rows, but amc23 has 40 problems"):
        scored(by_order[:-1])
    with pytest.raises(InputError, match="is no problem of amc23"):
        scored([*right, {"question": "What is 1+1?", "response": "2"}])
    with pytest.raises(InputError, match=r"no column 'respons' .did you mean 'response'"):
        scored(right, response="respons")
