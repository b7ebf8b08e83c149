"""Two evaluations side by side: is B better than A, by how much, and which problems flipped?

The difference is paired: each problem's rate in B minus its rate in A, bootstrapped over problems. What would
make the comparison unfair (other prompts, other sampling, other problems) is refused, or said with --force.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from negrl.errors import InputError, nearest
from negrl.evaluate import results as files
from negrl.evaluate.metrics import bootstrap_interval, pass_at_k
from negrl.evaluate.scores import powers
from negrl.files import write_atomic
from negrl.terminal import safe

MUST_MATCH = (
    "template", "few_shot", "few_shot_rows", "stop", "chat_template", "system_prompt", "temperature", "top_p",
    "top_k", "max_tokens", "extract",
)  # fmt: skip
"""Settings that change what is measured. Others (n, seed, engine, versions, dtype) are only told."""


def compare(
    a: Path, b: Path, names: list[str] | None = None, force: bool = False, bootstrap: int = 10_000
) -> dict[str, Any]:
    """Compare two results of `negrl evaluate`, for each benchmark that both have.

    Args:
        a, b: folders (or their results.json).
        names: benchmarks; None: all common ones.
        force: compare although settings or problems differ; of the problems, those that both have.
        bootstrap: resamples.

    Returns:
        What compare.json holds: per benchmark the differences with intervals (of rates in [0, 1], B minus A),
        the flipped problems, and the settings that differ.

    Raises:
        InputError: no results there, no benchmark in common, or settings differ and `force` is off.
    """
    left, right = files.read_results(a), files.read_results(b)
    common = [name for name in left["benchmarks"] if name in right["benchmarks"]]
    for name in names or []:
        if name not in common:
            raise InputError(f"--benchmark: '{name}' is not in both results{nearest(name, common)}")
    if not common:
        ours, theirs = (", ".join(r["benchmarks"]) or "none" for r in (left, right))
        raise InputError(f"no benchmark in common: {a} has {ours}; {b} has {theirs}")
    out: dict[str, Any] = {
        "a": {"path": str(a), "model": left["model"]},
        "b": {"path": str(b), "model": right["model"]},
        "benchmarks": {},
    }
    for name in names or common:
        entries = left["benchmarks"][name], right["benchmarks"][name]
        problems = files.read_problems(_folder(a), name), files.read_problems(_folder(b), name)
        out["benchmarks"][name] = _pair(name, entries, problems, force, bootstrap)
    return out


def _folder(path: Path) -> Path:
    return path if path.is_dir() else path.parent


def _pair(
    name: str, entries: tuple[dict[str, Any], dict[str, Any]],
    problems: tuple[dict[str, dict[str, Any]], dict[str, dict[str, Any]]], force: bool, bootstrap: int,
) -> dict[str, Any]:  # fmt: skip
    settings = [entry["settings"] for entry in entries]
    differ = _differing(*settings)
    unfair = [key for key in differ if key in MUST_MATCH]
    alone = [len(problems[0].keys() - problems[1].keys()), len(problems[1].keys() - problems[0].keys())]
    golds = sum(problems[0][k]["gold"] != problems[1][k]["gold"] for k in problems[0].keys() & problems[1].keys())
    reasons = [f"{key} ({_short(differ[key][0])} and {_short(differ[key][1])})" for key in unfair]
    if any(alone):
        reasons.append(f"problems ({alone[0]} only in A, {alone[1]} only in B)")
    if golds:
        reasons.append(f"gold answers ({golds} problems)")
    if reasons and not force:
        raise InputError(f"{name}: not comparable, these differ: {'; '.join(reasons)}; --force compares all the same")
    shared = [key for key in problems[0] if key in problems[1]]
    if not shared:
        raise InputError(f"{name}: the two results have no problem in common")
    pairs = [(problems[0][key], problems[1][key]) for key in shared]
    metrics = {}
    for k in powers(min(row["n"] for pair in pairs for row in pair)):
        rates = [tuple(pass_at_k(row["n"], row["correct"], k) for row in pair) for pair in pairs]
        differences = [after - before for before, after in rates]
        low, high = bootstrap_interval(differences, entries[0]["confidence"], bootstrap)
        metrics[f"pass@{k}"] = {
            "a": sum(r[0] for r in rates) / len(rates),
            "b": sum(r[1] for r in rates) / len(rates),
            "difference": {"value": sum(differences) / len(differences), "low": low, "high": high},
        }
    moved = [_flip(before, after) for before, after in pairs]
    gained = sorted((m for m in moved if m["a"] < 0.5 <= m["b"]), key=lambda m: m["a"] - m["b"])
    lost = sorted((m for m in moved if m["b"] < 0.5 <= m["a"]), key=lambda m: m["b"] - m["a"])
    return {
        "problems": len(shared),
        "n": [settings[0]["n"], settings[1]["n"]],
        "confidence": entries[0]["confidence"],
        "metrics": metrics,
        "gained": gained,
        "lost": lost,
        "differ": {key: value for key, value in differ.items() if key not in ("few_shot_rows",)},
        "versions_differ": _differing(entries[0]["versions"], entries[1]["versions"]),
        "engines": [entry["engine"]["name"] for entry in entries],
        "forced": reasons,
    }


def _flip(before: dict[str, Any], after: dict[str, Any]) -> dict[str, Any]:
    """One problem's rates in A and B, and what was answered most."""
    rates = [row["correct"] / row["n"] for row in (before, after)]
    answers = [row["answers"][0][0] if row["answers"] else None for row in (before, after)]
    return {
        "problem_id": after["problem_id"], "question": after["question"], "gold": after["gold"],
        "a": rates[0], "b": rates[1], "answer_a": answers[0], "answer_b": answers[1],
    }  # fmt: skip


def _differing(a: dict[str, Any], b: dict[str, Any]) -> dict[str, list[Any]]:
    return {key: [a.get(key), b.get(key)] for key in {**a, **b} if a.get(key) != b.get(key)}


def _short(value: Any) -> str:
    return safe(json.dumps(value, ensure_ascii=False), 40)


def write_comparison(found: dict[str, Any], out: Path, top: int = 20) -> None:
    """compare.json (everything) and compare.md (the first `top` flipped problems of each kind)."""
    write_atomic(out / "compare.json", (json.dumps(found, indent=2, ensure_ascii=False) + "\n").encode())
    write_atomic(out / "compare.md", comparison_page(found, top).encode())


def comparison_rows(found: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Head and cells of the main table."""
    rows = []
    for name, pair in found["benchmarks"].items():
        for metric, values in pair["metrics"].items():
            d = values["difference"]
            verdict = "B better" if d["low"] > 0 else "A better" if d["high"] < 0 else "no clear difference"
            change = f"{100 * d['value']:+.1f} [{100 * d['low']:+.1f}, {100 * d['high']:+.1f}]"
            flips = [str(len(pair["gained"])), str(len(pair["lost"]))] if metric == "pass@1" else ["", ""]
            shown = [f"{100 * values[side]:.1f}" for side in ("a", "b")]
            rows.append([f"{name} {metric}", str(pair["problems"]), *shown, change, *flips, verdict])
    return ["metric", "problems", "A", "B", "B - A", "gained", "lost", "verdict"], rows


def comparison_page(found: dict[str, Any], top: int) -> str:
    """compare.md."""
    lines = ["# Comparison", ""]
    lines += [f"- {side.upper()}: {files.md(found[side]['model']['name'])}" for side in ("a", "b")]
    lines += ["", *files.markdown_table(*comparison_rows(found)), ""]
    lines += [
        "In percent; in brackets the paired bootstrap interval over problems. A problem is gained (lost) when",
        "",
    ]
    lines[-2] += " at least half of its samples are right in B (A) and fewer than half in A (B)."
    for name, pair in found["benchmarks"].items():
        for why in pair["forced"]:
            lines += [f"Forced, although these differ in {name}: {files.md(why)}.", ""]
        for title in ("gained", "lost"):
            if pair[title]:
                cells = [_cells(m) for m in pair[title][:top]]
                lines += [f"## {name}: {title} ({len(pair[title])})", ""]
                lines += [*files.markdown_table(["problem", "gold", "A says", "B says", "A", "B"], cells), ""]
    return "\n".join(lines)


def _cells(moved: dict[str, Any]) -> list[str]:
    texts = [safe(moved["question"], 100), *(str(moved[c])[:40] for c in ("gold", "answer_a", "answer_b"))]
    return [*map(files.md, texts), f"{moved['a']:.2f}", f"{moved['b']:.2f}"]
