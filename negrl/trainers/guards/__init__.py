"""Guards: what training does to text that it does not see, and when to stop it.

    probes      a few problems' rows, held out before training
    measures    log p, entropy, KL, ratios, gradients on the probes; repetition and length of fresh samples
    rules       which numbers mean a disaster, and the sentence that says so
    callback    when to check, what to log, which weights to keep

The recipe's `train.guards` is in negrl/methods/guards.py. Importing this package loads no torch.
"""
