"""Run a recipe with several seeds and write one table: is a result just the luck of one seed?

    python scripts/seeds.py --config recipes/bench/learning-rates.yaml --seeds 0 1 2 \
        --out docs/results/learning-rates threads=1

A seed sets the sampling and the training and, where a world makes the problems, the world. Writes OUT.csv (one row
per arm and seed) and OUT.md. Finished runs are reused, so the script can be stopped and started again.
"""

import argparse
import csv
import json
import statistics
import sys
from pathlib import Path

from negrl.errors import InputError
from negrl.pipeline import run
from negrl.recipe import load_recipe
from negrl.terminal import safe

COLUMNS = ("arm", "seed", "pass_at_1", "spurious_share", "generated_tokens", "seconds")


def main() -> int:
    parser = argparse.ArgumentParser(description="Run a recipe with several seeds.")
    parser.add_argument("--config", required=True)
    parser.add_argument("--seeds", type=int, nargs="+", required=True)
    parser.add_argument("--out", required=True, type=Path)
    parser.add_argument("overrides", nargs="*")
    args = parser.parse_intermixed_args()
    rows, hardware = [], ""
    for seed in args.seeds:
        given = load_recipe(args.config, args.overrides)
        keys = ["seed", "sample.seed", "label.seed"]
        keys += ["policy.build.seed"] * (given.policy.build is not None)
        keys += ["problems.seed"] * hasattr(given.problems, "seed")
        folder = f"runs/{Path(args.config).stem}-seeds/seed-{seed}"
        recipe = load_recipe(args.config, [f"output_dir={folder}", *(f"{k}={seed}" for k in keys), *args.overrides])
        run(recipe)
        results = json.loads((Path(folder) / "report" / "results.json").read_text())
        hardware = results["hardware"]
        for name, arm in {**results["reference"], **results["arms"]}.items():
            rows.append([name, seed, *(arm[column] for column in COLUMNS[2:])])
    args.out.parent.mkdir(parents=True, exist_ok=True)
    with open(args.out.with_suffix(".csv"), "w", newline="") as handle:
        csv.writer(handle, lineterminator="\n").writerows([COLUMNS, *rows])
    args.out.with_suffix(".md").write_text(table(args, rows, hardware))
    print(safe(f"wrote {args.out}.csv and {args.out}.md"))
    return 0


def table(args: argparse.Namespace, rows: list[list], hardware: str) -> str:
    """The page: mean over seeds, and the lowest and highest seed."""
    seeds = " ".join(map(str, args.seeds))
    command = f"python scripts/seeds.py --config {args.config} --seeds {seeds} --out {args.out}"
    lines = [
        f"`{' '.join([command, *args.overrides])}`",
        f"\nHardware: {hardware}. Means over {len(args.seeds)} seeds; in brackets, the lowest and the highest seed.\n",
        "| arm | pass@1 | wrong step inside right answers | tokens generated |",
        "|---|---|---|---|",
    ]  # fmt: skip
    for name in dict.fromkeys(row[0] for row in rows):
        found = [row for row in rows if row[0] == name]
        right, spurious = [row[2] for row in found], [row[3] for row in found]
        tokens = statistics.mean(row[4] for row in found)
        lines.append(
            f"| {name} | {statistics.mean(right):.3f} [{min(right):.3f}, {max(right):.3f}] "
            f"| {statistics.mean(spurious):.1%} [{min(spurious):.1%}, {max(spurious):.1%}] | {tokens:,.0f} |"
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    try:
        sys.exit(main())
    except InputError as error:
        print(f"seeds.py: {safe(error)}", file=sys.stderr)
        sys.exit(2)
