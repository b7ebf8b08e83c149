"""What labels without rollouts are worth: the made policy, the whole command on a little of it, the GSM8K count."""

import gzip
import json
import math
from pathlib import Path

import pytest

from negrl.bench.labels.free import COLUMNS, GSM8K, Settings, Setup, main, share_of_states
from negrl.bench.page import read_csv
from negrl.bench.verify import GSM8K_COLUMNS
from negrl.engines.base import Request
from negrl.records import CORRECT

FEW = Settings(seeds=(0,), problems=6, samples=8, fixed=(4,), wordings=(3,), bootstrap=20)


@pytest.fixture(scope="module")
def setup() -> Setup:
    return Setup.of(FEW, 3, 0)


def test_the_made_policy_writes_what_its_values_say(setup: Setup) -> None:
    trace = next(t for t in setup.traces if t.verdict == CORRECT)
    text = setup.engine.tokenizer.decode(trace.token_ids)
    lines = text.split("\n")
    assert trace.logprobs is not None and len(trace.logprobs) == len(trace.token_ids) and trace.text in text
    end = len(setup.engine.encode(lines[0] + "\n"))
    for prefix in (trace.prompt_token_ids, trace.prompt_token_ids + trace.token_ids[:end]):
        drawn = setup.engine.generate([Request(prefix, 400, 1)])[0]
        problem = setup.problems[trace.problem_id]
        right = sum(setup.tools.verify(c.text, problem.gold, "stop").value == CORRECT for c in drawn) / 400
        value = setup.engine.value(prefix)
        assert abs(right - value) < 4 * math.sqrt(value * (1 - value) / 400) + 1e-9
    same = setup.engine.generate([Request(trace.prompt_token_ids, 3, 1)])[0]
    assert same == setup.engine.generate([Request(trace.prompt_token_ids, 5, 1)])[0][:3]


def test_the_chances_of_all_lines_add_up_to_one(setup: Setup) -> None:
    policy = setup.engine.policy
    for prompt, (plan, results) in list(setup.engine.places.items())[:40]:
        choices = policy.choices(plan, results)
        assert not choices or math.fsum(c.chance for c in choices) == pytest.approx(1), prompt


@pytest.fixture
def solutions(tmp_path: Path) -> Path:
    said = [
        "She has 3 + 4 = <<3+4=7>>7.\nSo 7 * 2 = <<7*2=14>>14.\nA: 14",
        "3 + 4 = 7 in all.\nThat is 7*2=14 dollars.\nA: 14",
        "She has 3 + 4 = <<3+4=7>>7.\nSo 7 * 3 = 21.\nA: 21",
        "Let us see.\nIt is 3 * 4 = 12.\nA: 12",
    ]
    row = {"question": "She has 3 and 4, twice (2) or 3 times.", "ground_truth": "A: 14"}
    row |= {name: {"is_correct": True, "solution": text} for name, text in zip(GSM8K_COLUMNS, said, strict=True)}
    with gzip.open(tmp_path / GSM8K, "wt") as file:
        file.write(json.dumps(row) + "\n")
    return tmp_path


def test_the_places_that_solutions_share(solutions: Path) -> None:
    found = share_of_states(solutions / GSM8K)
    assert (found.problems, found.solutions, found.places, found.empty) == (1, 4, 8, 1)
    assert found.by_words == 2  # the first lines of the first and the third
    assert found.by_facts == 5  # the first lines of three, the second lines of two


@pytest.mark.slow
def test_the_whole_command(solutions: Path) -> None:
    out = solutions / "page"
    main(solutions, out, FEW)
    rows = {row["labels"]: row for row in read_csv(out.with_suffix(".csv"), COLUMNS)}
    assert rows["facts-blind"]["rmse"] < rows["tokens-blind"]["rmse"]
    assert rows["facts"]["tokens"] == 0 < rows["fixed-4"]["tokens"]
    assert all(0 < row["rmse_low"] <= row["rmse"] <= row["rmse_high"] for row in rows.values())
    page = out.with_suffix(".md").read_text()
    assert page.count("\n| 3 |") == len(rows) and "{" not in page
