"""Step advantages online: TRL's GRPOTrainer with its generation, and its one advantage per response, replaced.

Each generation batch is sampled from the policy as it is now, judged, split into steps, and labelled with the
recipe's labeler (VinePPO's estimator, Kazemnejad et al. 2024, arXiv:2410.01679: V by rollouts from each step,
A = V_i - V_(i-1), the last V the verdict). Every token then has its step's A: (B, T) advantages, which TRL's
loss takes. Responses that were not labelled (undecided, or V_0 outside the band) have 0 everywhere.

Written by the transformers engine around the live model, or with `use_vllm: true` by TRL's vLLM, on one
training process (a server takes its weights from there).
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from trl import GRPOConfig, GRPOTrainer
from trl.models import unwrap_model_for_generation

from negrl.engines.base import Completion, Engine, Request
from negrl.errors import InputError
from negrl.labelers import open_labeler
from negrl.labeling.driver import label_traces
from negrl.labeling.rollouts import Tools
from negrl.problems import world_of
from negrl.recipe import Recipe
from negrl.records import CORRECT, Problem, Sampling, Trace, stable_seed
from negrl.store import write_atomic
from negrl.trainers.compat import TokenRows
from negrl.verify import Verifier


@dataclass(frozen=True, slots=True)
class OnlinePlan:
    """How many optimizer steps an epoch of prompts has, and how many responses are drawn at a time."""

    steps_per_epoch: int
    size: int
    trainer: StepGrpoTrainer

    def tokens(self, steps: int) -> int:
        """Prompt and response tokens that were run in training."""
        return int(self.trainer.state.num_input_tokens_seen) * self.trainer.num_iterations


class StepGrpoTrainer(GRPOTrainer):
    """Reads `PromptRow` columns. A group of responses may be divided among processes: each labels its own part,
    with V_0 from that part."""

    args: Any
    model: Any
    train_dataset: Any
    # What TokenRows does besides reading rows: no network, no card, a clear end when the loss is no number.
    create_model_card: Any = TokenRows.create_model_card
    floating_point_ops: Any = TokenRows.floating_point_ops
    stop_not_finite: Any = TokenRows.stop_not_finite
    _send_telemetry: Any = TokenRows._send_telemetry

    def __init__(self, *, args: GRPOConfig, options: Any, recipe: Recipe, **kwargs: Any):
        if recipe.label.labeler == "none":
            raise InputError("train: step_grpo needs step values: set label.labeler to adaptive or fixed")
        if args.use_vllm and (args.world_size > 1 or recipe.sample.stop or recipe.label.stop):
            raise InputError(
                "train.use_vllm: step_grpo labels through vLLM from one process and without stop strings; "
                "train with one process and empty sample.stop and label.stop, or leave it out"
            )
        sample = recipe.sample
        args.max_completion_length, args.temperature = sample.max_tokens, sample.temperature
        args.top_p, args.top_k = sample.top_p, sample.top_k
        self.recipe, self.options = recipe, options
        self._verifier = Verifier(recipe.verify)
        world = world_of(recipe.problems)
        self._oracle = world.value if world else None
        self._inputs: list[dict[str, Any]] = []
        self._traces: list[Trace] = []
        self._drawn = {"samples": 0, "rollouts": 0}
        rewards: list[Any] = [self.right]
        super().__init__(args=args, reward_funcs=rewards, **kwargs)
        self._context = getattr(self.model.config.get_text_config(), "max_position_embeddings", None)

    def batches(self) -> OnlinePlan:
        args = self.args
        rounds = len(self.train_dataset) // (args.generation_batch_size // self.num_generations)
        steps = rounds * args.steps_per_generation * self.num_iterations // args.gradient_accumulation_steps
        return OnlinePlan(steps, args.generation_batch_size, self)

    def training_step(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        loss = super().training_step(*args, **kwargs)
        if not torch.isfinite(loss):
            self.stop_not_finite("loss", float(loss))
        return loss

    # --- sampling -------------------------------------------------------------------------------

    def _tokenize_prompts(self, prompts: list[Any]) -> tuple[list[list[int]], None, dict[str, Any]]:
        return [list(row["prompt_ids"]) for row in self._inputs], None, {}

    def _generate_single_turn(
        self, prompt_ids: list[list[int]], images: Any, multimodal_fields: Any, num_generations: int, *_: Any, **__: Any
    ) -> tuple[list[list[int]], list[list[float]]]:
        """Draws one response to each prompt (a prompt stands there once for each), and judges it."""
        sample = self.recipe.sample
        seeds = [stable_seed(self._moment, self.accelerator.process_index, i) for i in range(len(prompt_ids))]
        requests = [
            Request(
                ids, seed=seed, max_tokens=sample.max_tokens, temperature=sample.temperature, top_p=sample.top_p,
                top_k=sample.top_k, stop=tuple(sample.stop),
            )
            for ids, seed in zip(prompt_ids, seeds, strict=True)
        ]  # fmt: skip
        with self._engine() as engine:
            drawn = [completions[0] for completions in engine.generate(requests)]
        verdicts = self._verifier.verify_all(
            [(c.text, row["gold"], c.finish_reason) for c, row in zip(drawn, self._inputs, strict=True)]
        )
        sampling = Sampling(sample.temperature, sample.top_p, sample.top_k, 0, sample.max_tokens)
        self._traces = [
            Trace(
                f"{i}", row["problem_id"], 0, i, "online", engine.name, sampling, ids, c.token_ids, c.logprobs, c.text,
                c.finish_reason, verdict.answer, verdict.value, verdict.reason,
            )
            for i, (row, ids, c, verdict) in enumerate(zip(self._inputs, prompt_ids, drawn, verdicts, strict=True))
        ]  # fmt: skip
        self._drawn["samples"] += sum(len(c.token_ids) for c in drawn)
        return [c.token_ids for c in drawn], [c.logprobs for c in drawn]

    def right(self, **_: Any) -> list[float]:
        """TRL's reward, for its log alone: 1 for a right answer, else 0."""
        return [float(trace.verdict == CORRECT) for trace in self._traces]

    @property
    def _moment(self) -> int:
        """A seed for this generation batch."""
        return stable_seed(self.args.seed, "step_grpo", self._step)

    @contextmanager
    def _engine(self) -> Iterator[Engine]:
        """The policy as it is now. Not for use outside the block."""
        if self.use_vllm:
            if self.state.global_step != self._last_loaded_step:
                self.vllm_generation.sync_weights()
                self._last_loaded_step = self.state.global_step
            yield VllmOfTrl(self)
            return
        from negrl.engines.transformers import BATCH_SIZE
        from negrl.engines.transformers.engine import TransformersEngine

        with (
            unwrap_model_for_generation(
                self.model_wrapped,
                self.accelerator,
                gather_deepspeed3_params=self.args.ds3_gather_for_generation,
                gradient_checkpointing_kwargs=self.args.gradient_checkpointing_kwargs,
            ) as model,
            self._dist.summon_full_params(self.model_wrapped, recurse=False),
            self.accelerator.autocast(),
        ):
            training = model.training
            model.eval()
            # Whatever engine.kind says, this one works on the weights as they are.
            batch_size = getattr(self.recipe.engine, "batch_size", BATCH_SIZE)
            yield TransformersEngine.around(model, self._tokenizer, batch_size)
            model.train(training)

    # --- step advantages ------------------------------------------------------------------------

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        self._inputs = inputs
        output: dict[str, Any] = super()._generate_and_score_completions(inputs)
        output["advantages"] = self.step_advantages(output["completion_mask"])
        return output

    def step_advantages(self, mask: torch.Tensor) -> torch.Tensor:
        """A of the step of every token of this batch's responses, 0 where it is not known.

        Args:
            mask: (B, T), the response tokens, on the left.

        Returns:
            (B, T) float32.
        """
        section = self.recipe.label.model_copy(update={"seed": self._moment})
        problems = {
            row["problem_id"]: Problem(row["problem_id"], "online", "train", "", row["prompt"], row["gold"])
            for row in self._inputs
        }
        with self._engine() as engine:
            tools = Tools(self._tokenizer, self._verifier.verify, self.recipe.sample, engine, self._context)
            result = label_traces(problems, self._traces, section, open_labeler(section, self._oracle), tools)
        advantages = torch.zeros(mask.shape, dtype=torch.float32)
        for step in result.steps:
            if not math.isnan(step.advantage):
                advantages[int(step.trace_id), step.start : step.end] = step.advantage
        self._drawn["rollouts"] += result.counts.generated_tokens
        self._note(advantages, mask.cpu(), result.counts.labelled / max(1, len(self._traces)))
        return advantages.to(mask.device)

    def _note(self, advantages: torch.Tensor, mask: torch.Tensor, labelled: float) -> None:
        count = mask.sum().clamp(min=1)
        shares = [((advantages > 0) * mask).sum() / count, ((advantages < 0) * mask).sum() / count]
        local = torch.tensor([*map(float, shares), labelled], device=self.accelerator.device)
        positive, negative, looked_at = self.accelerator.reduce(local, "mean").tolist()
        metrics = self._metrics["train"]
        metrics["positive/share"].append(positive)
        metrics["negative/share"].append(negative)
        metrics["label/labelled"].append(looked_at)
        metrics["generated_tokens"] = [sum(self.drawn.values())]

    @property
    def drawn(self) -> dict[str, int]:
        """Tokens generated so far by all processes (each must ask): `samples`, and labelling `rollouts`. A resumed
        run counts on from its checkpoint, as if it had never stopped."""
        counts = torch.tensor(list(self._drawn.values()), device=self.accelerator.device)
        return dict(zip(self._drawn, self.accelerator.reduce(counts, "sum").tolist(), strict=True))

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        folder = Path(self.args.output_dir) / f"checkpoint-{self.state.global_step}"
        state = {"drawn": self._drawn, "step": self._step}
        write_atomic(folder / f"online-{self.args.process_index}.json", json.dumps(state).encode())
        super()._save_checkpoint(model, trial)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        super()._load_optimizer_and_scheduler(checkpoint)
        if checkpoint is not None:
            found = Path(checkpoint) / f"online-{self.args.process_index}.json"
            if found.exists():  # not in one of an earlier version
                state = json.loads(found.read_text())
                self._drawn, self._step = state["drawn"], state["step"]  # the step seeds what is drawn


class VllmOfTrl:
    """TRL's vLLM under our engines' contract: token ids in, token ids out. It draws without seeds."""

    name = "vllm-trl"

    def __init__(self, trainer: StepGrpoTrainer):
        self._vllm, self._tokenizer = trainer.vllm_generation, trainer._tokenizer
        self._ends = set(trainer.eos_token_ids)

    def generate(
        self, requests: Sequence[Request], on_tokens: Callable[[int], None] | None = None
    ) -> list[list[Completion]]:
        """See `Engine.generate`. All are drawn with the room of the longest, then cut to their own."""
        usual = self._vllm.max_completion_length
        self._vllm.max_completion_length = max(r.max_tokens for r in requests)
        try:
            prompts = [r.prompt_token_ids for r in requests for _ in range(r.n)]
            _, drawn, logprobs, _ = self._vllm.generate(prompts=prompts, images=None, num_generations=1)
        finally:
            self._vllm.max_completion_length = usual
        both = iter(zip(drawn, logprobs, strict=True))
        return [[self._completion(*next(both), request.max_tokens) for _ in range(request.n)] for request in requests]

    def _completion(self, ids: list[int], logprobs: list[list[float]], room: int) -> Completion:
        ids = list(ids)[:room]
        text = self._tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        finished = "stop" if ids and ids[-1] in self._ends else "length"
        return Completion(ids, [float(each[0]) for each in logprobs[:room]], text, finished)

    def score(self, pairs: Sequence[tuple[list[int], list[int]]]) -> list[list[float]]:
        """Raises InputError: TRL's vLLM client scores nothing."""
        raise InputError("train.use_vllm: TRL's vLLM scores no text; leave out label.belief, or use_vllm")

    def close(self) -> None:
        """The trainer owns it."""
