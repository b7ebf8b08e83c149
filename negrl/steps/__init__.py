"""Which step is to blame: split traces into steps, put a value on each, give credit.

`split` cuts, a labeler (`labelers/`) says which prefixes it wants continued, `driver` asks the engine
for all of them in one stream, `values` turns counts into estimates, `credit` into labels and weights.
"""
