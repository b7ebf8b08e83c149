"""Chat templates, rendered where they can do no harm.

A model's chat template is a program that came with the model: `{{ 'x' * 9999999999 }}` takes all memory, nested loops
never end. transformers renders it in Jinja's sandbox, which keeps it from files and from Python, but sets no limits.
So it is rendered in a worker process (verify's pool), with limits that the kernel enforces.
"""

from __future__ import annotations

import functools
import json
import signal
from collections.abc import Iterator, Sequence
from typing import Any

from negrl.errors import InputError
from negrl.verify.pool import Failure, Pool

SECONDS = 5.0
"""CPU time for one prompt."""
MEMORY_MB = 1024
"""Of the worker, with what transformers takes."""
_ROOM, _TIMES = 1_000_000, 20
"""A prompt may have so many characters more than its messages, and so many times as many."""
_TRIP = 256
"""Prompts rendered in one go."""
_START = 120.0
"""Wall-clock seconds for one go: it may have to import transformers on a busy machine."""


def render(template: str, special_tokens: dict[str, str], chats: Sequence[list[dict[str, str]]]) -> Iterator[str]:
    """Each chat as the text that the model reads, with the generation prompt at its end.

    Args:
        special_tokens: name (bos_token, ...) -> text, which templates can use.
        chats: messages with `role` and `content`.

    Raises:
        InputError: the template is not valid, raises an error, or breaches a limit.
    """
    for start in range(0, len(chats), _TRIP):
        given = json.dumps([list(chat) for chat in chats[start : start + _TRIP]])
        found = _pool().run(_render, template, json.dumps(special_tokens), given, SECONDS)
        if found is Failure.MEMORY:
            raise InputError(f"policy.chat_template: the model's chat template takes more than {MEMORY_MB} MB")
        if isinstance(found, Failure):
            raise InputError(
                f"policy.chat_template: the model's chat template takes more than {SECONDS:g} s for a prompt"
            )
        if isinstance(found, str):
            raise InputError(f"policy.chat_template: the model's chat template {found}")
        yield from found


@functools.cache
def _pool() -> Pool:
    return Pool(1, _START, MEMORY_MB)


def _render(template: str, special_tokens: str, chats: str, seconds: float) -> list[str] | str:
    """In the worker. Returns the texts, or what is wrong with the template."""
    from transformers.utils.chat_template_utils import render_jinja_template

    names, texts = json.loads(special_tokens), []
    for chat in json.loads(chats):
        signal.signal(signal.SIGPROF, signal.SIG_DFL)  # which ends the process
        signal.setitimer(signal.ITIMER_PROF, seconds)
        try:
            rendered: Any = render_jinja_template([chat], chat_template=template, add_generation_prompt=True, **names)
        except MemoryError:
            raise
        except Exception as error:
            said = str(error).strip().partition("\n")[0][:200]
            return f"can't be rendered: {type(error).__name__}: {said}"
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
        text = rendered[0][0]
        if len(text) > _ROOM + _TIMES * sum(len(message["content"]) for message in chat):
            return f"makes {len(text):,} characters of one prompt"
        texts.append(text)
    return texts
