"""Train one method on one view: rows in, a model folder out.

out/model/           the trained model and its tokenizer, there only when it is complete
out/adapter/         with policy.lora: the adapter alone, as peft reads it
out/log.jsonl        one line per log: step, loss, the method's metrics
out/fit.json         what was trained, so that the same call returns at once
out/checkpoints/     while training; a killed run goes on from the last whole one
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa

from negrl.errors import GuardTripped, InputError
from negrl.files import write_atomic
from negrl.methods import Method
from negrl.methods.guards import GuardOptions
from negrl.recipe import PolicySection, Recipe
from negrl.records import to_arrow
from negrl.store import fingerprint
from negrl.trainers.distributed import barrier, check_trainer, is_main, need_weights, sharding
from negrl.trainers.loading import load_network
from negrl.trainers.saving import save_model

LARGE = 20_000_000
"""Parameters; the garbage of smaller models may lie until Python collects it (forcing it costs 0.2 s)."""


@dataclass(frozen=True, slots=True)
class FitResult:
    """`steps`: optimizer steps. `trained_tokens`: prompt and response tokens run in them, padding not
    counted. `seconds`: of this call, a resumed run counts from where it went on. `guard`: what the guards
    say (`Guard.facts`), None where there were none. `drawn`: tokens of samples and rollouts that a method drew
    while it trained, None for the others."""

    model_path: Path
    log_history: list[dict[str, Any]]
    steps: int
    trained_tokens: int
    seconds: float
    guard: dict[str, Any] | None = None
    drawn: dict[str, int] | None = None


def fit(
    method: Method,
    fields: dict[str, Any],
    rows: pa.Table | Sequence[Any],
    row_type: type,
    model: str,
    out: Path,
    policy: PolicySection,
    seed: int,
    on_step: Callable[[int, int, dict[str, Any]], None] | None = None,
    recipe: Recipe | None = None,
) -> FitResult:
    """Train `model` with `method` on `rows`; see the module's text for what is left in `out`.

    Under torchrun every process calls it with the same arguments; rank 0 writes. The result depends on
    the global batch (per_device_train_batch_size * gradient_accumulation_steps * processes), not on how
    it is divided. Called again after a kill it resumes, from the start when the global batch is another;
    called again when done it returns at once, whatever the number of processes.

    Args:
        fields: the recipe's train section: the method's options and TRL config fields.
        rows: of `row_type` (the view's), as a table of its Arrow schema or one by one, in any order; the seed
            shuffles.
        model: folder or hub id of the start policy; `policy` says in what dtype to run it.
        on_step: called on rank 0 after every optimizer step with step, total and the latest metrics.
        recipe: the whole of it, for methods that sample and label while they train.

    Raises:
        InputError: wrong fields, rows that can't be trained as they are, or not one step to take.
        GuardTripped: a guard stopped the training (`train.guards`, on_trip: stop). `out` is whole, with the
            best weights, and the same call says so again at once.
        RuntimeError: the loss or the gradient is no longer finite.
    """
    from negrl.quiet import quiet
    from negrl.trainers import lora
    from negrl.trainers import rows as tables
    from negrl.trainers.checkpoints import last_checkpoint, remove_broken
    from negrl.trainers.config import configure
    from negrl.trainers.guards.callback import guard_for
    from negrl.trainers.guards.probes import hold_out

    start = time.perf_counter()
    out = Path(out)
    checkpoints = out / "checkpoints"
    with quiet():
        options, config = configure(method, fields, policy, seed, checkpoints)
        view = rows if isinstance(rows, pa.Table) else to_arrow(row_type, rows)
        if not len(view):
            raise InputError(f"train: no rows to train {method.name} on (the {method.view} view is empty)")
        view, held = hold_out(view, row_type, options.guards)
        table = tables.training_columns(view, row_type)
        source = [str(model), policy.revision, policy.dtype, policy.trust_remote_code, *policy.adapters().items()]
        key = fingerprint(method.name, fields, seed, source, tables.table_hash(table), *_online(method, recipe))
        if len(held):
            key = fingerprint(key, tables.table_hash(tables.training_columns(held, row_type)))
        if (done := _finished(out, key)) is not None:
            return _unless_stopped(done, options.guards)
        network, tokenizer = load_network(str(model), policy, fields, method.network)
        text_config = network.config.get_text_config()
        for part in (view, held) if len(held) else (view,):
            tables.check_rows(
                part,
                row_type,
                vocabulary=text_config.vocab_size,
                context=getattr(text_config, "max_position_embeddings", None),
                max_length=fields.get("max_length"),
            )
        if is_main():
            (out / "fit.json").unlink(missing_ok=True)  # says nothing about the model that comes
            # Fewer or more processes than before the kill: another global batch, so another training. And what
            # one sharding has saved, another can't read.
            batch = config.per_device_train_batch_size * config.gradient_accumulation_steps * config.world_size
            _prepare_folder(checkpoints, fingerprint(key, batch, sharding() or ""))
            remove_broken(checkpoints)
            if not (checkpoints / "rows.arrow").exists():
                tables.write_table(table, checkpoints / "rows.arrow")
        barrier()
        trainer = _trainer(
            method, options, config, network, tokenizer, checkpoints, on_step, str(model), policy, fields, recipe
        )
        plan = trainer.batches()
        if plan.steps_per_epoch == 0:
            raise InputError(
                f"train: {len(view)} rows do not fill one global batch of {plan.size} (dataloader_drop_last)"
            )
        guard = guard_for(options.guards, held, view, row_type, trainer, checkpoints / "guards")
        resume = last_checkpoint(checkpoints)
        trainer.train(resume_from_checkpoint=str(resume) if resume else None)
        steps = trainer.state.global_step
        if steps == 0:
            raise InputError("train: not one step was taken; check train.num_train_epochs and train.max_steps")
        history = trainer.state.log_history
        drawn = trainer.drawn if method.online else None  # summed over the processes: all of them ask
        tokens = plan.tokens(steps)
        if guard is not None and guard.keeps_best():
            guard.use_best()
        if policy.lora is None:
            save_model(trainer, out, policy)
        else:
            whole = partial(load_network, str(model), policy.without_adapters(), fields, method.network)
            lora.save(trainer, out, policy, lambda: whole()[0])
    seconds = time.perf_counter() - start
    facts = guard.facts() if guard is not None else None
    if is_main():
        write_atomic(out / "log.jsonl", "".join(json.dumps(line) + "\n" for line in history).encode())
        summary = {"key": key, "steps": steps, "trained_tokens": tokens, "seconds": seconds}
        summary |= {"guard": facts, "drawn": drawn}
        write_atomic(out / "fit.json", json.dumps(summary).encode())
        shutil.rmtree(checkpoints)
    barrier()
    # The fused head ties the model to itself in a cycle: a large one can't wait for its collection.
    large = network.num_parameters() > LARGE
    del trainer, network, guard
    if large:
        gc.collect()
    return _unless_stopped(FitResult(out / "model", history, steps, tokens, seconds, facts, drawn), options.guards)


def _unless_stopped(result: FitResult, options: GuardOptions | None) -> FitResult:
    """Raises GuardTripped when a guard ended the training and the recipe wants the run to end with it."""
    facts = result.guard
    if facts is None or facts["stopped"] is None or (options is not None and options.on_trip != "stop"):
        return result
    hint = "lower train.learning_rate, or " if facts["stopped_at"] else ""
    raise GuardTripped(
        f"a guard stopped the training at step {facts['stopped_at']}: {facts['stopped']}; the weights of step "
        f"{facts['best_step']} are kept in {result.model_path} ({hint}go on with them: train.guards.on_trip: keep)"
    )


def _finished(out: Path, key: str) -> FitResult | None:
    if not ((out / "fit.json").is_file() and (out / "model" / "config.json").is_file()):
        return None
    summary = json.loads((out / "fit.json").read_text())
    if summary["key"] != key:
        return None
    history = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    numbers = (summary.get(name) for name in ("steps", "trained_tokens", "seconds", "guard", "drawn"))
    return FitResult(out / "model", history, *numbers)


def _prepare_folder(checkpoints: Path, key: str) -> None:
    """Keep what an earlier call with the same key left there, and nothing else."""
    mark = checkpoints / "key"
    if checkpoints.exists() and not (mark.is_file() and mark.read_text() == key):
        shutil.rmtree(checkpoints)
    write_atomic(mark, key.encode())


def _online(method: Method, recipe: Recipe | None) -> list[Any]:
    """What of the recipe such a method's training depends on, beyond its fields."""
    if not method.online:
        return []
    if recipe is None:
        raise InputError(f"train: {method.name} samples and labels while it trains: it needs the whole recipe")
    return [section.model_dump() for section in (recipe.sample, recipe.verify, recipe.label)]


def _trainer(
    method: Method,
    options: Any,
    config: Any,
    network: Any,
    tokenizer: Any,
    checkpoints: Path,
    on_step: Callable[[int, int, dict[str, Any]], None] | None,
    model: str,
    policy: PolicySection,
    fields: dict[str, Any],
    recipe: Recipe | None,
) -> Any:
    import datasets
    from transformers import PrinterCallback

    from negrl.trainers import lora
    from negrl.trainers.checkpoints import Finite, Steps, TimedCheckpoints

    callbacks: list[Any] = [Finite()]
    if config.save_strategy == "no" and "save_strategy" not in fields:
        callbacks.append(TimedCheckpoints())
    if on_step is not None and is_main():
        callbacks.append(Steps(on_step))
    module, name = method.trainer.split(":")
    extra: dict[str, Any] = {"recipe": recipe} if method.online else {}
    if policy.lora is not None:
        network, adapters = lora.attach(network, policy, config.seed, method.makes_policy)
        extra |= adapters
    elif method.config in ("dpo", "kto") and (sharding() == "FSDP" or not config.precompute_ref_log_probs):
        # With FSDP TRL scores it with a second model, and would load that without policy.revision.
        extra["ref_model"] = load_network(model, policy, fields)[0]
    if method.online and sharding() == "FSDP":  # its processes run the model unequally often, and would wait forever
        raise InputError(f"accelerate config: {method.name} writes text while it trains, not with FSDP: use ddp.yaml")
    if method.config in ("dpo", "kto"):
        need_weights(f"{method.name} scores its reference")
    trainer = getattr(importlib.import_module(module), name)(
        model=network,
        args=config,
        train_dataset=datasets.Dataset.from_file(str(checkpoints / "rows.arrow")),
        processing_class=tokenizer,
        callbacks=callbacks,
        options=options,
        **extra,
    )
    if getattr(trainer, "start_log_probs", None) or getattr(trainer, "reference", None):
        need_weights("rows without logprobs, or kl_to: start, are scored")
    check_trainer(trainer, policy.dtype)
    if "ref_model" in extra and config.precompute_ref_log_probs:
        trainer.ref_model = None  # has done its work
    if policy.lora is not None:
        lora.hold_in_float32(trainer.model)
    if not os.environ.get("NEGRL_DEBUG"):
        trainer.remove_callback(PrinterCallback)
    return trainer
