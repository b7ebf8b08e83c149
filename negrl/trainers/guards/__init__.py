"""Guards: what training does to text that it does not see, and when to stop it.

    options     the recipe's `train.guards`
    probes      rows of a few problems, held out before training
    measures    log p, entropy, KL, ratios, gradients on the probes; repetition and length of fresh samples
    rules       which numbers mean a disaster, and the sentence that says so
    callback    when to check, what to log, which weights to keep

Importing this package loads no torch: the recipe parser reads `options`.
"""
