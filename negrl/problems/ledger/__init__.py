"""`ledger`: word problems about who has how many, with people, amounts, units and sentences that don't matter.

    prompt    Tom has 12 apples. Ana has 7 more apples than Tom. Tom is 9 years old. Then Ana loses 4 apples.
              How many apples do Ana and Tom have together?
    solution  Ana has 12 + 7 = 19 apples.
              Ana now has 19 - 4 = 15 apples.
              Together they have 15 + 12 = 27 apples.
              #### 27

A step is a line. It is judged by the quantity that it claims to compute: 12 + 9 = 21 is right arithmetic but a
wrong step, because the 9 is an age. The writer of the pre-training text has habits that real models have
(`HABITS` in write.py). The teacher has them too, but less often, and its solutions are kept if the final
answer is right (`teacher_filter` has other ways).
"""

from __future__ import annotations

from negrl.problems.base import Source
from negrl.problems.ledger.section import LedgerProblems
from negrl.problems.ledger.world import World, load

SOURCE = Source("ledger", LedgerProblems, load, World)
