"""Which step is to blame: split traces into steps, put a value on each, give credit.

`split` cuts the traces. A labeler (`negrl.labelers`) says which prefixes to continue, and `negrl.labeling` asks the
engine for all of them in one stream. `values` turns counts into estimates, and `credit` turns these into labels and
weights.
"""
