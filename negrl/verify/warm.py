"""Imported by the fork server before it forks workers, so that they start with math-verify loaded and warm.

The first comparison in a process builds the tables of the grammar. Here that happens once, and a worker that
replaces a killed one is ready in milliseconds.
"""

from negrl.verify.equivalence import compare_math

compare_math(r"\frac{x}{2} + \sqrt{3}", r"0.5x + 3^{1/2}")
