"""How a policy is trained. `fit` trains one method (negrl/methods) on one view (negrl/views).

    fit                what the pipeline calls: rows in, a model folder out, killed runs resume
    sft, preference,   thin subclasses of TRL's trainers that read token rows as they are
    kto, advantage, step_advantage, nft, process_reward
    step_grpo, online  the trainer that samples while it trains, and what it needs for that
    losses, nft_loss   the losses of our own, pure functions on tensors
    guards             what training does to text that it does not see, and when to stop it
    batches, rows      which rows make a global batch, the same for any number of processes
    tree, tree_attention   equal prefixes of a batch are run once
    lora, loading, saving, checkpoints   weights in, weights out
    compat, head       the one place that depends on TRL's internals; the LM head on a CPU
    distributed        how many processes there really are

Importing this package loads no torch.
"""

import os

# huggingface_hub reads it only once, when it is imported, so this comes before anything else.
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
