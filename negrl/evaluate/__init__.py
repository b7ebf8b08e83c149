"""How good a policy is. `metrics` turns verdicts into numbers with intervals."""
