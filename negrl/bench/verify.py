"""`negrl bench verify`: our verdicts beside plain math-verify, in speed and in what they say.

Both judge the same whole responses against the same gold answers in one run, in alternating blocks, so that
whatever else the machine does falls on both. Plain math-verify is what its README shows: `parse` of the
gold answer and of the response, then `verify`, with its own timeouts, in one process. Neither side has seen
a row before its block. Where a file knows better than both (labels, or solutions that are their own gold),
every different verdict is listed with who is right; else the column is left for a person.
"""

from __future__ import annotations

import logging
import os
import platform
import shlex
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

from negrl.bench.page import Column, render, to_csv, write_files
from negrl.files import read_rows
from negrl.pipeline.finish import hardware
from negrl.records import CORRECT, INCORRECT, UNDECIDED, Verdict
from negrl.verify import Verifier
from negrl.verify.extract import gold_answer
from negrl.verify.section import VerifySection

_BLOCK = 500
"""Rows that one side judges before it is the other's turn."""
_SHOWN = 40
"""Differences of a file on the page; all are in the CSV."""
COLUMNS = tuple(
    Column(name)
    for name in ("file", "row", "gold", "answer", "method", "negrl", "negrl_reason", "math_verify", "why", "right")
)
"""A row for each different verdict."""
PACKAGES = ("math-verify", "latex2sympy2_extended", "sympy", "pebble")
"""What the figures depend on."""
GSM8K_COLUMNS = ("6b_finetuning", "6b_verification", "175b_finetuning", "175b_verification")


@dataclass(frozen=True, slots=True)
class Item:
    """One response to judge. `right` is whether it is right in truth, None where nobody knows."""

    name: str
    response: str
    gold: str
    right: bool | None

    @property
    def truth(self) -> str:
        """The verdict that it deserves; empty where nobody knows."""
        return "" if self.right is None else CORRECT if self.right else INCORRECT


@dataclass(frozen=True, slots=True)
class Judged:
    """What the two sides say of one item. `plain` also says when math-verify read nothing; `read` is what it read."""

    item: Item
    ours: Verdict
    plain: str
    read: str

    @property
    def who(self) -> str:
        """Who is right where they differ: undecided is not wrong, but no answer either."""
        if not self.item.truth:
            return ""
        if self.ours.value == self.item.truth:
            return "negrl"
        return "math-verify" if self.plain == self.item.truth else "neither"

    @property
    def why(self) -> str:
        """Where the two part ways, as far as a rule can tell."""
        ours, gold = self.ours, self.item.gold
        if ours.reason == "no_answer":
            return (
                f"no marked answer; math-verify takes {self.read} out of the text" if self.read else "no marked answer"
            )
        if self.plain == "nothing read":
            return "math-verify reads nothing in the response"
        if ours.reason is not None:
            return f"negrl does not settle '{ours.answer}' against '{gold}' ({ours.reason})"
        if ours.answer == gold:
            return f"the answer is the gold text; math-verify reads {self.read}"
        return f"negrl reads '{ours.answer}' ({ours.method}), math-verify {self.read or 'nothing'}"


@dataclass(slots=True)
class Comparison:
    """What came out on one file. Seconds are wall-clock."""

    file: str
    workers: int
    judged: list[Judged] = field(default_factory=list)
    our_seconds: float = 0.0
    plain_seconds: float = 0.0

    @property
    def known(self) -> int:
        """Items of which the truth is known."""
        return sum(bool(j.item.truth) for j in self.judged)

    @property
    def our_hits(self) -> int:
        """Our verdicts that are the truth, of `known`."""
        return sum(j.ours.value == j.item.truth for j in self.judged)

    @property
    def our_calls(self) -> int:
        """Rows that are called correct if and only if they are right, of `known`."""
        return sum((j.ours.value == CORRECT) == j.item.right for j in self.judged)

    @property
    def plain_hits(self) -> int:
        return sum(j.plain == j.item.truth for j in self.judged)

    @property
    def our_wrong(self) -> list[Judged]:
        """Where ours is correct or incorrect, and not the truth."""
        return [j for j in self.judged if j.item.truth and j.ours.value not in (j.item.truth, UNDECIDED)]

    @property
    def differences(self) -> list[Judged]:
        return [j for j in self.judged if j.ours.value != j.plain]

    @property
    def opposite(self) -> int:
        """Items that one side calls correct and the other incorrect."""
        return sum(d.ours.value != UNDECIDED and d.plain in (CORRECT, INCORRECT) for d in self.differences)

    @property
    def ours(self) -> Counter[str]:
        return Counter(j.ours.value for j in self.judged)

    @property
    def reasons(self) -> dict[str, int]:
        """Why verdicts are undecided."""
        return dict(sorted(Counter(f"{j.ours.value}: {j.ours.reason}" for j in self.judged if j.ours.reason).items()))

    @property
    def who(self) -> dict[str, int]:
        """Who is right where the two differ."""
        return dict(Counter(d.who or "a person has to look" for d in self.differences).most_common())


def main(data: Path, out: Path, limit: int | None = None) -> None:
    """Measure on the files in `data`, print the table, write OUT.md (the report) and OUT.csv (every different
    verdict).

    Args:
        data: folder with gsm8k_example_model_solutions, math_train, and, for the agreement, processbench_*,
            gsm8k_test, math500 and math_test_minus500.
        out: path without suffix.
        limit: use the first so many rows of every file.

    Raises:
        InputError: a file is missing.
    """
    command = f"negrl bench verify --data {shlex.quote(str(data))} --out {shlex.quote(str(out))}"
    results = [
        compare("GSM8K solutions", gsm8k_solutions(data, limit), workers=1),
        compare("MATH gold solutions", math_golds(data, limit), workers=2),
        compare("ProcessBench GSM8K", processbench(data, "gsm8k", limit), workers=1),
        compare("ProcessBench MATH", processbench(data, "math", limit), workers=2),
    ]
    text, table = page(results, command), [row for r in results for row in rows(r)]
    print(text)
    write_files(out, {".md": text.encode(), ".csv": to_csv(COLUMNS, table)})


def gsm8k_solutions(data: Path, limit: int | None = None) -> list[Item]:
    """The model solutions of GSM8K's authors, with their labels."""
    return [
        Item(f"line {line}, {name}", row[name]["solution"], gold_answer(row["ground_truth"]), row[name]["is_correct"])
        for line, row in read_rows(data / "gsm8k_example_model_solutions.jsonl.gz")[:limit]
        for name in GSM8K_COLUMNS
    ]


def math_golds(data: Path, limit: int | None = None) -> list[Item]:
    """MATH's reference solutions against their own answers: all are right."""
    found = read_rows(data / "math_train.jsonl.gz")[:limit]
    return [Item(f"line {line}", row["solution"], row["answer"], True) for line, row in found]


def processbench(data: Path, kind: str, limit: int | None = None) -> list[Item]:
    """ProcessBench's model solutions with `final_answer_correct`; the gold answers come from the problems'
    own files, by the problem's text."""
    if kind == "gsm8k":
        golds = {r["question"].strip(): gold_answer(r["answer"]) for _, r in read_rows(data / "gsm8k_test.jsonl.gz")}
    else:
        files = ("math500.jsonl", "math_test_minus500.jsonl.gz")
        golds = {r["problem"].strip(): r["answer"] for name in files for _, r in read_rows(data / name)}
    found = read_rows(data / f"processbench_{kind}.jsonl.gz")[:limit]
    return [
        Item(row["id"], "\n".join(row["steps"]), golds[row["problem"].strip()], row["final_answer_correct"])
        for _, row in found
    ]


def compare(file: str, items: Sequence[Item], workers: int) -> Comparison:
    """Both sides on the same items, block by block. Imports and the start of our workers are not counted; the
    program's own main thread runs math-verify, as its timeouts demand."""
    verifier = Verifier(VerifySection(workers=workers, conclusion=True))  # as `negrl verify`
    verifier.verify(r"\boxed{1+1}", "2")
    plain_verdict("1", "1")
    result = Comparison(file, workers)
    for start in range(0, len(items), _BLOCK):
        block = items[start : start + _BLOCK]
        began = time.perf_counter()
        ours = verifier.verify_all([(item.response, item.gold, "stop") for item in block])
        between = time.perf_counter()
        plain = [plain_verdict(item.response, item.gold) for item in block]
        result.our_seconds += between - began
        result.plain_seconds += time.perf_counter() - between
        found = zip(block, ours, plain, strict=True)
        result.judged += [Judged(item, our, said, read) for item, our, (said, read) in found]
    return result


def plain_verdict(response: str, gold: str) -> tuple[str, str]:
    """math-verify on its own, and what it read in the response. It says True or False, or reads nothing."""
    from math_verify import parse, verify

    logging.getLogger("math_verify").setLevel(logging.ERROR)
    wanted, found = parse(f"${gold}$"), parse(response)
    said = CORRECT if verify(wanted, found) else INCORRECT
    return said if found else "nothing read", " / ".join(str(f)[:60] for f in found)


def rows(r: Comparison) -> list[dict[str, str | None]]:
    """Every different verdict, for the CSV; `right` is empty where a person has to say."""
    return [
        {"file": r.file, "row": d.item.name, "gold": d.item.gold, "answer": d.ours.answer, "method": d.ours.method,
         "negrl": d.ours.value, "negrl_reason": d.ours.reason, "math_verify": d.plain, "why": d.why, "right": d.who}
        for d in r.differences
    ]  # fmt: skip


def page(results: Sequence[Comparison], command: str) -> str:
    """Speed, agreement, every difference."""
    packages = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    machine = f"{hardware()}, load {os.getloadavg()[0]:.1f} at the end; Python {platform.python_version()}, {packages}."
    return render(
        "verify.md", command=command, machine=machine, results=results, cell=_cell, CORRECT=CORRECT,
        INCORRECT=INCORRECT, UNDECIDED=UNDECIDED, SHOWN=_SHOWN,
        differences=differences([row for r in results for row in rows(r)]),
    )  # fmt: skip


def differences(table: Sequence[Mapping[str, str | None]]) -> str:
    """The first rows of each file, of the CSV, as Markdown."""
    files = dict.fromkeys(row["file"] for row in table)
    shown = [row for file in files for row in [r for r in table if r["file"] == file][:_SHOWN]]
    return render("verify-differences.md", rows=shown, cell=_cell).strip()


def _cell(text: str | None) -> str:
    """Table text: a model's, so cut and without anything that Markdown or HTML would take up."""
    text = " ".join((text or "").split())[:100].replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return text.replace("\\", "\\\\").replace("|", "\\|").replace("`", "'").replace("$", "\\$").replace("*", "\\*")
