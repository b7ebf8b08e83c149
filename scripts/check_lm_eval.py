"""Score the same responses as lm-evaluation-harness and math-verify would, and list where our verdicts differ.

lm-eval cannot share an environment with negrl. `prepare` runs in negrl's environment and writes the responses with our
verdicts. `score` runs in lm-eval's (without torch: it uses only lm-eval's filters, metric and gsm8k.yaml):

    python scripts/check_lm_eval.py prepare ../shared/data responses
    python -m venv lmeval
    lmeval/bin/pip install --no-deps lm-eval
    lmeval/bin/pip install numpy pyyaml sacrebleu math-verify==0.9.0
    lmeval/bin/python scripts/check_lm_eval.py score responses --out docs/results/lm-eval-crosscheck
"""

from __future__ import annotations

import argparse
import csv
import importlib.metadata
import json
import logging
import re
from collections import Counter
from collections.abc import Iterable
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

COLUMNS = ("6b_finetuning", "6b_verification", "175b_finetuning", "175b_verification")
FINAL_LINE = re.compile(r"^A:[ \t]*(?=[^\n]*\s*\Z)", re.MULTILINE)
JUDGES = ("strict-match", "flexible-extract", "math-verify")
SHOWN = 12
"""Differences of one kind listed on the page; all are in the CSV."""


def prepare(data: Path, out: Path) -> None:
    """Our side: the four models' solutions through `negrl evaluate --responses`, ProcessBench's verified directly."""
    from negrl.evaluate.benchmarks import pick
    from negrl.evaluate.responses import Columns
    from negrl.evaluate.results import export_samples
    from negrl.evaluate.run import Given, evaluate
    from negrl.evaluate.settings import EvalSettings
    from negrl.files import read_rows
    from negrl.verify import Verifier
    from negrl.verify.section import VerifySection

    solutions = data / "gsm8k_example_model_solutions.jsonl.gz"
    labels = {row["question"]: row for _, row in read_rows(solutions)}
    for name in COLUMNS:
        folder, file = out / "results" / name, out / f"{name}.jsonl"
        given = Given(solutions, Columns(f"{name}.solution"), name)
        evaluate(None, pick("gsm8k"), EvalSettings(), data, folder, given)
        export_samples(folder, "gsm8k", file)
        rows = [row for _, row in read_rows(file)]
        write(file, [{**row, "label": labels[row["question"]][name]["is_correct"]} for row in rows])
    golds = {
        r.question: r.gold for source in (pick("gsm8k")[0].source, pick("gsm8k")[0].shots) for r in source.rows(data)
    }
    rows = [row for _, row in read_rows(data / "processbench_gsm8k.jsonl.gz")]
    items = [("\n\n".join(row["steps"]), golds[row["problem"].strip()], "stop") for row in rows]
    found = []
    for row, (text, gold, _), v in zip(rows, items, Verifier(VerifySection()).verify_all(items), strict=True):
        ours = {"answer": v.answer, "verdict": v.value, "verdict_reason": v.reason}
        label = row["final_answer_correct"]
        found.append({"problem_id": row["id"], "response": text, "gold": gold, **ours, "label": label})
    write(out / "processbench_gsm8k.jsonl", found)


def write(file: Path, rows: list[dict[str, Any]]) -> None:
    file.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def task() -> dict[str, Any]:
    """lm-eval's own gsm8k task."""
    import lm_eval
    import yaml

    return yaml.safe_load((Path(lm_eval.__file__).parent / "tasks/gsm8k/gsm8k.yaml").read_text())


def harness(texts: list[str], golds: list[str], name: str) -> list[tuple[str, bool]]:
    """What lm-eval's filter extracts from each response, and its exact_match."""
    from lm_eval.api.instance import Instance
    from lm_eval.api.metrics import exact_match_hf_evaluate
    from lm_eval.filters import build_filter_ensemble

    own = task()
    steps = next(f["filter"] for f in own["filter_list"] if f["name"] == name)
    parts = [(s["function"], {k: v for k, v in s.items() if k != "function"} or None) for s in steps]
    instances = [Instance("generate_until", {}, (), i, resps=[text]) for i, text in enumerate(texts)]
    build_filter_ensemble(name, parts).apply(instances)
    options = {k: v for k, v in own["metric_list"][0].items() if k.startswith(("regexes", "ignore"))}
    found = []
    for instance, gold in zip(instances, golds, strict=True):
        taken = instance.filtered_resps[name]
        score = exact_match_hf_evaluate([taken], [f"#### {gold}"], **options)["exact_match"]
        found.append((taken, bool(score)))
    return found


def math_verify(text: str, gold: str) -> tuple[str, bool]:
    """math-verify with its own defaults."""
    from math_verify import parse, verify

    taken = parse(text)
    return str(taken[-1]) if taken else "[nothing]", bool(verify(parse(gold), taken))


def kind(row: dict[str, Any], taken: str, right: bool) -> str:
    """Why our verdict and theirs differ."""
    if row["verdict"] == "undecided":
        said = "right" if right else "wrong"
        return f"we: undecided ({row['verdict_reason']}), they: {said}"
    ours = "right" if row["verdict"] == "correct" else "wrong"
    if taken in ("[invalid]", "[nothing]"):
        return f"we: {ours}, they found no answer"
    same = "the same number written in another way" if number(taken) == number(row["answer"]) else "another number"
    return f"we: {ours}, they took {same}"


def number(text: str | None) -> Decimal | str | None:
    bare = re.sub(r"[^0-9.\-]", "", text or "").rstrip(".")
    try:
        return Decimal(bare)
    except InvalidOperation:
        return text


def score(rows: list[dict[str, Any]]) -> dict[str, list[tuple[str, bool]]]:
    texts, golds = [r["response"] for r in rows], [r["gold"] for r in rows]
    hashed = [FINAL_LINE.sub("#### ", text) for text in texts]
    return {
        "strict-match": harness(hashed, golds, "strict-match"),
        "flexible-extract": harness(texts, golds, "flexible-extract"),
        "math-verify": [math_verify(t, g) for t, g in zip(texts, golds, strict=True)],
    }


def cell(text: object) -> str:
    shown = str(text).replace("|", "\\|").replace("<", "&lt;").replace("\n", " ")
    return f"...{shown[-60:]}" if len(shown) > 60 else shown


def table(head: list[str], rows: Iterable[list[Any]]) -> list[str]:
    return ["| " + " | ".join(map(cell, r)) + " |" for r in (head, ["---"] * len(head), *rows)] + [""]


def compare(files: list[Path], out: Path) -> None:
    """Their side, and the page."""
    logging.disable(logging.WARNING)
    counts: list[list[Any]] = []
    kinds: dict[str, Counter[tuple[str, str]]] = {judge: Counter() for judge in JUDGES}
    listed: list[list[Any]] = []
    for file in files:
        rows = [json.loads(line) for line in file.read_text().splitlines()]
        found = score(rows)
        ours = sum(r["verdict"] == "correct" for r in rows)
        theirs = (sum(right for _, right in found[j]) for j in JUDGES)
        counts.append([file.stem, len(rows), sum(r["label"] for r in rows), ours, *theirs])
        for judge in JUDGES:
            for row, (taken, right) in zip(rows, found[judge], strict=True):
                if right != (row["verdict"] == "correct"):
                    why = kind(row, taken, right)
                    kinds[judge][file.stem, why] += 1
                    tail = row["response"].strip().rpartition("\n")[2]
                    said = row["verdict"], row["answer"]
                    listed.append([judge, file.stem, row["problem_id"], why, row["gold"], *said, taken, right, tail])
    out.parent.mkdir(parents=True, exist_ok=True)
    out.with_suffix(".md").write_text("\n".join(page(counts, kinds, listed)))
    head = ("judge", "responses", "problem_id", "kind", "gold", "verdict", "answer", "they_took", "they_say_right")
    with out.with_suffix(".csv").open("w", newline="") as handle:
        writer = csv.writer(handle, lineterminator="\n")
        writer.writerow([*head, "last_line"])
        writer.writerows(listed)
    print("\n".join(table(["responses", "n", "labels", "negrl", *JUDGES], counts)))


def page(counts: list[list[Any]], kinds: dict[str, Counter[tuple[str, str]]], listed: list[list[Any]]) -> list[str]:
    version = importlib.metadata.version
    lines = [
        "# The same responses, scored by lm-evaluation-harness and math-verify",
        "",
        f"lm-eval {version('lm-eval')} (task gsm8k version {task()['metadata']['version']:g}, with its own filters, "
        f"metric and YAML) and math-verify {version('math-verify')}. Number of responses that each counts as right:",
        "",
        *table(["responses", "n", "the file's labels", "negrl", *JUDGES], counts),
        "- 6b_..., 175b_...: GPT-3's solutions of the GSM8K test set (openai/grade-school-math, MIT). They end in "
        "`A: x`, which strict-match does not recognize, so for strict-match only, that line was changed to `#### x`.",
        "- processbench_gsm8k: every other GSM8K row of ProcessBench (Apache-2.0), solutions by newer models in their "
        "own words. None has a `####` line, so strict-match finds nothing.",
        "- math-verify reads the whole response, with its default settings.",
        "",
        "## Where the verdicts differ",
        "",
        "Compared response by response. Undecided counts as not right, so an undecided response that they call wrong "
        "is not a difference.",
        "",
        *table(
            ["judge", "responses", "kind", "count"],
            ([j, name, why, c] for j in JUDGES for (name, why), c in kinds[j].most_common()),
        ),
    ]
    head = ["kind", "gold", "negrl", "answer", "they took", "last line"]
    for judge in JUDGES:
        lines += [f"### {judge}: {sum(kinds[judge].values())}", ""]
        for key in kinds[judge]:
            own = [[r[3], r[4], r[5], r[6], r[7], r[9]] for r in listed if r[0] == judge and (r[1], r[3]) == key]
            lines += [f"The first {SHOWN} of {len(own)}; all are in the CSV.", ""] if len(own) > SHOWN else []
            lines += table(head, own[:SHOWN])
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description="Compare our verdicts with lm-eval's gsm8k filters and math-verify.")
    steps = parser.add_subparsers(dest="step", required=True)
    first = steps.add_parser("prepare", help="in negrl's environment")
    first.add_argument("data", type=Path, help="folder that contains the data files")
    first.add_argument("folder", type=Path, help="where the JSON lines go")
    second = steps.add_parser("score", help="in lm-eval's environment")
    second.add_argument("folder", type=Path)
    second.add_argument("--out", type=Path, required=True, help="writes OUT.md and OUT.csv")
    args = parser.parse_args()
    if args.step == "prepare":
        prepare(args.data, args.folder)
    else:
        compare([args.folder / f"{name}.jsonl" for name in (*COLUMNS, "processbench_gsm8k")], args.out)


if __name__ == "__main__":
    main()
