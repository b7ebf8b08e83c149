"""The recipe: one YAML per run, its sections named after the stages.

OmegaConf reads the YAML and the dotted overrides, pydantic checks. Unknown keys are errors that
name the nearest right key. Nothing here imports torch: a recipe is checked before anything heavy.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import pydantic
from pydantic import Field, model_validator

from negrl.errors import InputError, nearest
from negrl.trainers.methods import METHODS, check_fields


class Section(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid", use_attribute_docstrings=True)


class TrainSection(pydantic.BaseModel):
    """`method`, the method's own options, and any field of the TRL config that it trains with."""

    model_config = pydantic.ConfigDict(extra="allow")

    method: str = "step_advantage"
    rounds: int | None = Field(None, ge=1)

    @model_validator(mode="after")
    def _known_fields(self) -> TrainSection:
        if self.method not in METHODS:
            known = ", ".join(sorted(METHODS))
            raise ValueError(f"unknown method '{self.method}'{nearest(self.method, METHODS)}; one of {known}")
        check_fields(self.method, self.fields)
        return self

    @property
    def fields(self) -> dict[str, Any]:
        """Everything but `method` and `rounds`: method options and TRL config fields."""
        return dict(self.model_extra or {})

    def over(self, other: TrainSection) -> TrainSection:
        """This section on top of `other`'s fields (those that this method knows)."""
        from negrl.trainers.methods import known_fields

        known = known_fields(self.method)
        inherited = {k: v for k, v in other.fields.items() if k in known}
        return TrainSection(method=self.method, rounds=self.rounds or other.rounds, **{**inherited, **self.fields})


class BuildSection(Section):
    """Make a small model from scratch: for worlds, and to try a recipe without weights."""

    corpus: Literal["world", "solutions"] = "world"
    """`world`: the world's pre-training text. `solutions`: prompt + reference solution of the training problems."""
    documents: int = Field(20000, ge=1)
    tokenizer: Literal["char", "bpe"] = "char"
    vocab_size: int = Field(2048, ge=64)
    architecture: Literal["llama", "qwen2"] = "llama"
    hidden_size: int = Field(64, ge=2)
    intermediate_size: int = Field(176, ge=1)
    num_hidden_layers: int = Field(3, ge=1)
    num_attention_heads: int = Field(2, ge=1)
    max_position_embeddings: int = Field(256, ge=2)
    tie_word_embeddings: bool = True
    seed: int = 0
    train: TrainSection = Field(default_factory=lambda: TrainSection(method="sft"))

    @model_validator(mode="after")
    def _even_heads(self) -> BuildSection:
        if self.hidden_size % (2 * self.num_attention_heads):
            raise ValueError(
                f"hidden_size {self.hidden_size} must be a multiple of twice num_attention_heads "
                f"({self.num_attention_heads})"
            )
        return self


class PolicySection(Section):
    model: str | None = None
    """A model folder or a hub id."""
    revision: str | None = None
    build: BuildSection | None = None
    """Make a small model instead of loading one."""
    start: TrainSection | None = None
    """Train the model on the sources' reference solutions first (SFT): every arm starts from there."""
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    chat_template: bool = False
    """Wrap prompts in the tokenizer's chat template."""
    system_prompt: str | None = None
    trust_remote_code: bool = False

    @model_validator(mode="after")
    def _one_origin(self) -> PolicySection:
        if (self.model is None) == (self.build is None):
            raise ValueError("give either policy.model (a folder or hub id) or policy.build (a small one made here)")
        if self.start is not None and self.start.method != "sft":
            raise ValueError(f"policy.start.method must be sft, not '{self.start.method}'")
        return self


class ChainProblems(Section):
    source: Literal["chain"]
    train: int = Field(256, ge=1)
    evaluate: int = Field(1000, ge=1)
    operations: int = Field(5, ge=1, le=20)
    habit_rate: float = Field(0.5, ge=0, le=1)
    """Chance that a step of the pre-training text follows the writer's habit."""
    teacher_habit_rate: float = Field(0.33, ge=0, le=1)
    """The same for the teacher, whose solutions are kept when the final answer is right."""
    seed: int = 0


class Gsm8kProblems(Section):
    source: Literal["gsm8k"]
    path: str | None = None
    """Local JSONL (plain or .gz) for training. Default: openai/gsm8k from the hub."""
    evaluate_path: str | None = None
    train: int | None = Field(None, ge=1)
    """Use the first so many. Default: all."""
    evaluate: int | None = Field(None, ge=1)
    template: str = "Question: {prompt}\nAnswer:\n"


class JsonlProblems(Section):
    source: Literal["jsonl"]
    path: str
    """JSON lines (plain or .gz)."""
    prompt: str = "prompt"
    gold: str = "gold"
    solution: str | None = None
    """Column with a reference solution, for SFT."""
    evaluate_path: str | None = None
    """Held-out problems. Default: the last `evaluate` of `path`, taken out of training."""
    train: int | None = Field(None, ge=1)
    evaluate: int | None = Field(None, ge=1)
    template: str = "{prompt}"
    license: str = "unknown"


Problems = Annotated[ChainProblems | Gsm8kProblems | JsonlProblems, Field(discriminator="source")]


class TracesSection(Section):
    """Traces that exist already, in place of sampled ones. Column names may be dotted paths."""

    path: str
    prompt: str = "prompt"
    response: str | list[str] = "response"
    """One column, or several: each becomes a trace of the row's problem."""
    gold: str = "gold"
    label: str | list[str] | None = None
    """The file's own right/wrong column(s), compared with our verdicts in the report."""
    license: str = "unknown"
    template: str = "{prompt}"

    @model_validator(mode="after")
    def _as_many_labels(self) -> TracesSection:
        if self.label is not None and len(self.labels) != len(self.responses):
            raise ValueError(f"traces.label names {len(self.labels)} columns, traces.response {len(self.responses)}")
        return self

    @property
    def responses(self) -> list[str]:
        return [self.response] if isinstance(self.response, str) else self.response

    @property
    def labels(self) -> list[str]:
        return [] if self.label is None else [self.label] if isinstance(self.label, str) else self.label


class EngineSection(Section):
    kind: Literal["transformers", "vllm"] = "transformers"
    batch_size: int = Field(512, ge=1)
    """Sequences decoded at once by the transformers engine."""
    device: str | None = None
    """Default: cuda where there is one, else cpu."""
    options: dict[str, Any] = Field(default_factory=dict)
    """Passed to vllm.LLM: tensor_parallel_size, gpu_memory_utilization, ..."""


class SampleSection(Section):
    n: int = Field(16, ge=1)
    temperature: float = Field(1.0, ge=0)
    top_p: float = Field(1.0, gt=0, le=1)
    top_k: int = Field(0, ge=0)
    max_tokens: int = Field(512, ge=1)
    stop: list[str] = Field(default_factory=list)
    seed: int = 0
    shard_size: int = Field(64, ge=1)
    """Problems per shard: what a killed run can lose."""


class VerifySection(Section):
    extract: Literal["auto", "boxed", "hash", "answer_line", "answer_is", "last_number", "chain"] = "auto"
    timeout: float = Field(5.0, gt=0)
    """Seconds for one equivalence check; then its worker process is killed and the verdict is undecided."""
    memory_mb: int = Field(1024, ge=256)
    """Memory of one worker process: a check that needs more is undecided."""
    workers: int = Field(1, ge=1)
    """Worker processes for the checks that need math-verify."""


BELIEF_TEXTS = {
    "auto": "\n#### ",
    "hash": "\n#### ",
    "answer_line": "\nA: ",
    "boxed": "\n\\boxed{",
    "answer_is": "\nThe answer is ",
    "last_number": "\nThe answer is ",
    "chain": "!",
}
"""verify.extract -> what stands before an answer that it finds."""


class LabelSection(Section):
    labeler: Literal[
        "adaptive", "fixed", "bisect", "first_zero", "belief", "prm", "arithmetic", "consensus", "oracle", "none"
    ] = "adaptive"
    """`none`: split into steps only."""
    k: int = Field(8, ge=1)
    """Rollouts at every step that is looked at (fixed, bisect, first_zero); for imported traces also from every
    prompt, for V_0 (whatever the labeler)."""
    max_rollouts: int = Field(16, ge=1)
    """Of one trace at most (adaptive)."""
    step_chances: bool = True
    """Read from the sampler's logprobs how likely each step was (adaptive). False: as for imported traces."""
    budget_tokens: int | None = Field(None, ge=0)
    """Rollout tokens for all traces of a round together (adaptive): none are asked for beyond. Default: no limit."""
    agree: tuple[str, str] = ("adaptive", "arithmetic")
    """The two labelers of `consensus`: the first one's advantages stand where the two agree."""
    belief: str | None = None
    """Text between a prefix and the gold answer whose log p tells the policy's belief in it, e.g. "\n#### " (belief;
    with adaptive it becomes its prior). Default: none for adaptive, by `verify.extract` for belief."""
    prm: str | None = None
    """Folder of a process reward model (prm): what a training with method process_reward leaves in `model`."""
    best_of: int = Field(1, ge=1)
    """Values are the chance that the best of so many tries is right (Setlur et al. 2024: 5). 1: of one try. Counts
    below it give no value, so k (and sample.n, for V_0) must not be smaller."""
    stop: list[Annotated[str, Field(min_length=1)]] = Field(default_factory=list)
    """Strings that end a rollout, besides `sample.stop`: what the policy writes once its answer is settled. They stay
    in the text that is judged, so they may be part of the answer, as a closing brace is."""
    confidence: float = Field(0.9, gt=0.5, lt=1)
    dead_zone: float = Field(0.2, ge=0, lt=1)
    """Advantages no larger than this get no weight, whatever their interval."""
    require_significance: bool = False
    """Also drop advantages whose interval contains 0."""
    value_band: tuple[float, float] = (0.1, 0.9)
    """Keep only traces of problems whose V_0 lies in this band."""
    after_pit: Literal["drop", "keep"] = "drop"
    """Steps after the pit of a wrong trace: no weight, or weight as measured."""
    split: Literal["newline", "blank_line", "sentence", "pattern", "chain"] = "newline"
    pattern: str = r"(?m)Step \d+[*_]*:|^[#>*_ \t-]*Step \d+\b"
    """Where a step begins (split: pattern)."""
    min_chars: int = Field(1, ge=1)
    """Shorter steps are merged into their neighbour."""
    max_steps: int = Field(32, ge=1)
    max_tokens: int | None = Field(None, ge=1)
    """Of a rollout. Default: what sample.max_tokens leaves after the prefix."""
    shard_size: int = Field(64, ge=1)
    """Problems per shard."""
    seed: int = 0

    @pydantic.field_validator("pattern")
    @classmethod
    def _is_regex(cls, pattern: str) -> str:
        try:
            re.compile(pattern)
        except re.error as error:
            raise ValueError(f"'{pattern}' is no regular expression: {error}") from None
        return pattern

    @model_validator(mode="after")
    def _labelers_fit(self) -> LabelSection:
        known = [n for n in get_args(LabelSection.model_fields["labeler"].annotation) if n not in ("consensus", "none")]
        for name in self.agree:
            if name not in known:
                raise ValueError(f"agree: '{name}' can't take part{nearest(name, known)}; two of {', '.join(known)}")
        if self.agree[0] == self.agree[1]:
            raise ValueError(f"agree: '{self.agree[0]}' always agrees with itself; name two different labelers")
        if ("prm" in self.members) != (self.prm is not None):
            raise ValueError("prm: labeler prm needs the folder of a process reward model, and no other reads it")
        if {"prm", "belief"} <= set(self.members) or ("prm" in self.members and self.belief is not None):
            raise ValueError("agree: prm and beliefs can't be read together")
        if self.best_of > 1:
            for name in self.members:
                if name in ("arithmetic", "oracle"):
                    raise ValueError(f"best_of: {self.best_of} says nothing to {name}, whose values are exact; set 1")
                if name in ("fixed", "bisect", "first_zero") and self.k < self.best_of:
                    raise ValueError(
                        f"k: {self.k} rollouts ({name}) can't show the best of {self.best_of}; set k to more"
                    )
        return self

    @property
    def members(self) -> tuple[str, ...]:
        """The labelers at work: the two of a consensus, else the one."""
        return self.agree if self.labeler == "consensus" else (self.labeler,)


class EvaluateSection(Section):
    n: int = Field(4, ge=1)
    problems: int | None = Field(None, ge=1)
    temperature: float = Field(1.0, ge=0)
    max_tokens: int | None = Field(None, ge=1)
    """Default: sample.max_tokens."""
    confidence: float = Field(0.95, gt=0.5, lt=1)
    bootstrap: int = Field(2000, ge=100)
    seed: int = 12345
    shard_size: int = Field(500, ge=1)


class ReportSection(Section):
    traces: int = Field(200, ge=0)
    """Traces to page through in index.html."""


class Recipe(Section):
    name: str
    seed: int = 0
    output_dir: str = ""
    """Default: runs/<name>. The report, plots and results are here."""
    store: str = ""
    """Folder of the stages' rows and models; runs may share one. Default: <output_dir>/stages."""
    threads: int | None = Field(None, ge=1)
    """Torch threads. Default: torch's own choice."""
    policy: PolicySection
    problems: Problems | None = None
    traces: TracesSection | None = None
    engine: EngineSection = Field(default_factory=EngineSection)
    sample: SampleSection = Field(default_factory=SampleSection)
    verify: VerifySection = Field(default_factory=VerifySection)
    label: LabelSection = Field(default_factory=LabelSection)
    train: TrainSection = Field(default_factory=TrainSection)
    arms: dict[str, TrainSection | None] | None = None
    """Several methods side by side, each on top of `train`; an arm that is null is left out. Null: one
    arm named after train.method."""
    rounds: int = Field(1, ge=1)
    evaluate: EvaluateSection | None = Field(default_factory=EvaluateSection)
    """null: no evaluation."""
    report: ReportSection = Field(default_factory=ReportSection)

    @model_validator(mode="after")
    def _whole(self) -> Recipe:
        if not self.output_dir:
            self.output_dir = f"runs/{self.name}"
        self.store = self.store or f"{self.output_dir}/stages"
        if self.problems is None and self.traces is None:
            raise ValueError("give problems (to sample from) or traces (to import)")
        if self.problems is None and self.evaluate is not None:
            raise ValueError("evaluate needs problems: add a problems section, or set evaluate: null")
        if "oracle" in self.label.members and not isinstance(self.problems, ChainProblems):
            raise ValueError("label.labeler: oracle needs a world with an exact step checker (problems.source: chain)")
        for name, arm in self.resolved_arms.items():
            if METHODS[arm.method].reads_values and self.label.labeler == "none":
                raise ValueError(
                    f"arm '{name}' ({arm.method}) needs step values: set label.labeler to adaptive or fixed"
                )
        of, drawn = ("label.k", self.label.k) if self.traces is not None else ("sample.n", self.sample.n)
        if self.label.labeler != "none" and drawn < self.label.best_of:
            raise ValueError(f"{of}: V_0 from {drawn} samples can't show label.best_of {self.label.best_of}; raise it")
        if "belief" in self.label.members and self.label.belief is None:
            self.label = self.label.model_copy(update={"belief": BELIEF_TEXTS[self.verify.extract]})
        low, high = self.label.value_band
        if not 0 <= low < high <= 1:
            raise ValueError(f"label.value_band must be two rising numbers in [0, 1], not [{low}, {high}]")
        return self

    @property
    def resolved_arms(self) -> dict[str, TrainSection]:
        """Arm name -> complete train section (method defaults are applied by the trainer)."""
        arms = {name: arm for name, arm in (self.arms or {}).items() if arm is not None}
        arms = arms or {self.train.method: self.train}
        return {name: arm.over(self.train) for name, arm in arms.items()}


def load_recipe(path: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read and check a recipe.

    Args:
        path: a YAML file. Relative paths inside it are relative to the working directory.
        overrides: `key.sub=value` strings, values in YAML syntax.

    Raises:
        InputError: the file is missing or not YAML, a key is unknown, a value has the wrong type.
    """
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    file = Path(path)
    if file.is_dir():
        raise InputError(f"{path}: is a folder; expected a recipe (YAML)")
    if not file.is_file():
        near = nearest(file.name, [p.name for p in file.parent.glob("*.yaml")] if file.parent.is_dir() else [])
        raise InputError(f"{path}: no such recipe{near}")
    for item in overrides:
        if "=" not in item or not item.split("=", 1)[0]:
            raise InputError(f"override '{item}': expected key=value, e.g. sample.n=8")
    try:
        config = OmegaConf.load(file)
        if not OmegaConf.is_dict(config):
            raise InputError(f"{path}: expected a mapping of sections at the top level")
        merged = OmegaConf.merge(config, OmegaConf.from_dotlist(list(overrides)))
        data = OmegaConf.to_container(merged, resolve=True)
    except UnicodeDecodeError:
        raise InputError(f"{path}: not a text file; expected a recipe (YAML)") from None
    except YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{path}:{mark.line + 1}" if mark else str(path)
        raise InputError(f"{where}: not valid YAML: {getattr(error, 'problem', None) or error}") from None
    except OmegaConfBaseException as error:
        raise InputError(f"{path}: {str(error).splitlines()[0]}") from None
    try:
        return Recipe.model_validate(data)
    except pydantic.ValidationError as error:
        raise InputError(f"{path}: {first_error(error)}") from None


def first_error(error: pydantic.ValidationError) -> str:
    """The first problem as one line. Unknown keys come first: they often cause the others."""
    details = sorted(error.errors(), key=lambda d: d["type"] != "extra_forbidden")
    first = details[0]
    # The discriminator's tag ("chain") sits in the location of a union; it is no key of the file.
    location = [str(p) for i, p in enumerate(first["loc"]) if not (i == 1 and first["loc"][0] == "problems")]
    key = ".".join(location)
    more = f" (and {len(details) - 1} more)" if len(details) > 1 else ""
    if first["type"] == "extra_forbidden":
        return f"unknown key '{key}'{nearest(location[-1], _keys_beside(first['loc']))}{more}"
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] == "missing":
        message = "required key is missing"
    given = "" if first["type"] in ("missing", "value_error") else f", got {first['input']!r}"
    return f"{key}: {message}{given}{more}" if key else f"{message}{more}"


def _keys_beside(location: tuple[str | int, ...]) -> list[str]:
    """The keys that are allowed where `location`'s last key stands."""
    sources = {"chain": ChainProblems, "gsm8k": Gsm8kProblems, "jsonl": JsonlProblems}
    model: Any = Recipe
    for part in location[:-1]:
        if part in sources:
            model = sources[str(part)]
            continue
        annotation = model.model_fields[part].annotation if part in model.model_fields else None
        candidates = [annotation, *getattr(annotation, "__args__", ())]
        model = next((c for c in candidates if isinstance(c, type) and issubclass(c, pydantic.BaseModel)), model)
    return list(model.model_fields)
