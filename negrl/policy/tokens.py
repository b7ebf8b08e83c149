"""The policy's tokenizer, and how a problem becomes a prompt."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from negrl.errors import InputError
from negrl.policy.section import PolicySection
from negrl.records import Problem

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def load_tokenizer(model: str, policy: PolicySection) -> PreTrainedTokenizerBase:
    """The tokenizer of a model folder or hub id.

    Raises:
        InputError: it can't be loaded.
    """
    from transformers import AutoTokenizer

    revision = policy.revision if not Path(model).is_dir() else None
    try:
        return AutoTokenizer.from_pretrained(model, revision=revision, trust_remote_code=policy.trust_remote_code)
    except Exception as error:  # tokenizers raises plain Exception on a damaged file
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(f"policy.model: the tokenizer of '{model}' can't be loaded: {reason}") from None


def encode_prompt(tokenizer: PreTrainedTokenizerBase, problem: Problem, policy: PolicySection) -> list[int]:
    """Token ids of a problem's prompt, through the chat template where the recipe or the source
    asks for it."""
    if not policy.chat_template and problem.messages is None:
        return list(tokenizer(problem.prompt, add_special_tokens=True, verbose=False)["input_ids"])
    messages = [{"role": m.role, "content": m.content} for m in problem.messages or []]
    messages = messages or [{"role": "user", "content": problem.prompt}]
    if policy.system_prompt is not None:
        messages = [{"role": "system", "content": policy.system_prompt}, *messages]
    if tokenizer.chat_template is None:
        raise InputError("policy.chat_template: the model's tokenizer has no chat template; set it to false")
    from jinja2 import TemplateError  # what renders the template

    try:
        encoded: Any = tokenizer.apply_chat_template(
            messages, add_generation_prompt=True, tokenize=True, return_dict=True
        )
    except (TemplateError, TypeError, ValueError, ArithmeticError, RecursionError, MemoryError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(f"policy.model: the tokenizer's chat template fails: {reason}") from None
    return list(encoded["input_ids"])


def encode_response(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """Token ids of a whole response that someone else wrote, with EOS at its end."""
    if tokenizer.eos_token_id is None:
        raise InputError("policy.model: the tokenizer has no EOS token, so a response has no end")
    return [*tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"], tokenizer.eos_token_id]
