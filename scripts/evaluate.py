"""Evaluate a model on math benchmarks, or compare two results: `negrl evaluate` as a script.

python scripts/evaluate.py MODEL --benchmark gsm8k,math500 --n 4 --temperature 0.6 --out results/mine
python scripts/evaluate.py compare results/base results/mine
"""

import sys

from negrl.cli import main

if __name__ == "__main__":
    sys.argv.insert(1, "evaluate")
    main()
