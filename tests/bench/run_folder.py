"""Makes the run folder of a bench whose truth is known: err = a N^-b for SFT, a multiplier for every other arm. At
T=0: err = 0.3 (N / 64)^-0.5, and the multiplier `greedy`, or the same one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from negrl.bench.page import to_csv
from negrl.bench.sweep.results import GRID, POINTS

SIZES = (64, 128, 256, 512, 1024, 2048, 4096, 8192)
ARMS: dict[str, dict[str, Any]] = {  # multiplier, method, rounds, tokens a problem, share of wrong steps
    "start": {"times": 0.9, "method": "sft", "tokens": 0, "spurious": 0.20},
    "control": {"times": 0.8, "method": "step_advantage", "tokens": 850, "spurious": 0.20},
    "dft": {"times": 1.3, "method": "dft", "tokens": 0, "spurious": 0.19},
    "rft": {"times": 1.5, "method": "rft", "tokens": 500, "spurious": 0.22},
    "rft_equal": {"times": 1.8, "method": "rft", "tokens": 850, "spurious": 0.22},
    "dpo": {"times": 3, "method": "dpo", "tokens": 500, "spurious": 0.16},
    "step_dpo": {"times": 8, "method": "step_dpo", "tokens": 850, "spurious": 0.12},
    "step_advantage": {"times": 14, "method": "step_advantage", "tokens": 850, "spurious": 0.09},
    "step_advantage_x4": {"times": 60, "method": "step_advantage", "rounds": 4, "tokens": 3200, "spurious": 0.05},
}
BENCH = """recipe:
  name: chain
  problems: {source: chain, operations: 5, train: 8192, evaluate: 200}
  sample: {n: 16, max_tokens: 48}
  evaluate: {n: 4}
bench:
  seeds: [0, 1, 2, 3, 4]
  sft: {sizes: [64, 128, 256, 512, 1024, 2048, 4096, 8192], grid: {learning_rate: [1.0e-4, 5.0e-4]}}
  arms: {step_advantage: {method: step_advantage}, control: {method: step_advantage, shuffle_labels: true}}
"""


def make(
    folder: Path, seeds: int = 5, sizes: tuple[int, ...] = (64, 256), a: float = 0.65, b: float = 0.15,
    arms: dict[str, dict[str, Any]] | None = None, sft: tuple[int, ...] = SIZES, problems: int = 200,
    shared: bool = True, drop: tuple[str, int, int] | None = None, random_seed: int = 0,
) -> Path:  # fmt: skip
    """`drop`: an (arm, size, seed) that fell: its row has no pass@1 and a note."""
    rng = np.random.default_rng(random_seed)
    folder.mkdir(parents=True, exist_ok=True)
    hard = np.exp(0.3 * rng.normal(size=problems) - 0.045)
    rows: list[dict[str, Any]] = []
    counts: list[dict[str, Any]] = []

    def point(arm: str, size: int, seed: int, needed: float, about: dict[str, Any]) -> None:
        row: dict[str, Any] = {
            "arm": arm, "method": about.get("method", "sft"), "rounds": about.get("rounds", 1), "size": size,
            "seed": seed, "samples_n": about.get("n", 16), "learning_rate": about.get("learning_rate", 1e-4),
            "epochs": 4,
        }  # fmt: skip
        rows.append(row)
        if (arm, size, seed) == drop:
            row["note"] = "did not finish: out of memory"
            return
        error = a * needed**-b * np.exp(rng.normal() * 0.03)
        right = rng.binomial(4, np.clip(1 - error * hard, 0, 1))
        at_zero = 0.3 * (needed / about.get("times", 1) * about.get("greedy", about.get("times", 1)) / 64) ** -0.5
        greedy = rng.binomial(1, np.clip(1 - at_zero * np.exp(rng.normal() * 0.1) * hard, 0, 1))
        names = [f"p{i}" if shared else f"s{seed}p{i}" for i in range(problems)]
        counts.extend(
            {
                "arm": arm,
                "size": size,
                "seed": seed,
                "problem_id": p,
                "n": 4,
                "correct": int(c),
                "greedy": int(g),
                "correct_k": int(c),
            }
            for p, c, g in zip(names, right, greedy, strict=True)
        )
        passed = float(right.mean() / 4)
        row |= {
            "pass_at_1": f"{passed:.5f}", "pass_at_k": f"{(right > 0).mean():.5f}", "k": 4,
            "greedy": f"{greedy.mean():.5f}", "spurious_share": f"{about.get('spurious', 0.2):.4f}",
            "mass_before": 0.31, "mass_after": f"{0.31 * about.get('spurious', 0.2) / 0.2:.4f}",
            "generated_tokens": about.get("tokens", 0) * size, "label_tokens": about.get("tokens", 0) * size // 3,
            "train_seconds": 3 + size * 0.02, "seconds": 3 + size * (0.02 + about.get("tokens", 0) / 8000),
            "guard": about.get("guard", ""), "note": about.get("note", ""),
        }  # fmt: skip

    for seed in range(seeds):
        point("base", 0, seed, 6, {"method": "base"})
        for size in sft:
            point("sft", size, seed, size, {"learning_rate": 5e-4 if size < 1000 else 1e-4})
        for size in sizes:
            for arm, about in (ARMS if arms is None else arms).items():
                point(arm, size, seed, size * about["times"], about)
    (folder / "points.csv").write_bytes(to_csv(POINTS, rows))
    grid = [
        {"size": n, "seed": s, "learning_rate": lr, "epochs": 4, "validation_pass_at_1": 0.5 + lr,
         "validation_greedy": 0.9 - lr, "chosen_greedy": lr == 1e-4,
         "validation_pass_at_k": 0.9, "chosen_k": lr == 1e-4,
         "chosen": lr == (5e-4 if n < 1000 else 1e-4)}
        for s in range(seeds) for n in sft for lr in (1e-4, 5e-4)
    ]  # fmt: skip
    (folder / "grid.csv").write_bytes(to_csv(GRID, grid))
    pq.write_table(pa.Table.from_pylist(counts), folder / "problems.parquet")
    costs = {"hardware": "2 x AMD EPYC", "planned": {"tokens": 9_000_000, "seconds": 5000, "megabytes": 800},
             "taken": {"tokens": 10_100_000, "seconds": 7000, "megabytes": 810}}  # fmt: skip
    (folder / "costs.json").write_text(json.dumps(costs))
    (folder / "bench.yaml").write_text(BENCH)
    return folder
