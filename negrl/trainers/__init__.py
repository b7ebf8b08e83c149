"""How it learns. `fit` trains one method on one view; the methods are short modules in `methods/`.

    fit                what the pipeline calls: rows in, a model folder out, killed runs resume
    losses             the step-advantage loss, pure functions on tensors
    sft, preference,   thin subclasses of TRL's trainers that read token rows as they are
    step_advantage
    batches            which rows make a global batch, the same for any number of processes
    compat             the one place that leans on TRL's internals
    checkpoints        when to save, what is whole enough to resume from
    distributed        how many processes there really are

Importing this package (as the recipe parser does, for `methods`) loads no torch.
"""

import os

# huggingface_hub reads it once, when it is imported: so before anything else here.
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
