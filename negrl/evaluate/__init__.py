"""How good a policy is: `metrics` turns verdicts into numbers with intervals, `benchmarks` are the math
benchmarks by name, `run` evaluates a model on them, `compare` sets two results side by side."""
