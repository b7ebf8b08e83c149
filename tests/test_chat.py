"""Chat templates: the ids that transformers gives, and limits that no template gets around."""

from __future__ import annotations

import threading
import time

import pytest

from negrl.errors import InputError
from negrl.policy import PolicySection, chat, encode_prompts
from negrl.records import Message, Problem
from tests.made_tokenizers import bpe

pytestmark = pytest.mark.slow
CHATML = (
    "{{ bos_token or '' }}{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>' + "
    "'\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
TRICKY = (
    "{%- set ns = namespace(n=0) -%}{% for m in messages %}{% set ns.n = ns.n + 1 %}{{ ns.n }}{{ m.content | trim }}"
    "{% if m.role == 'system' %}{{ raise_exception('no system') if false }}{% endif %}{% if loop.last %}{% continue %}"
    "{% endif %}\n{% endfor %}{% generation %}{{ eos_token }}{% endgeneration %}{{ messages | tojson }}"
)
TEXTS = ["a b", "", "  spaces \n", "é 日本 🙂 \u202e", "<|im_end|> {{ 7 * 7 }} {% raw %}", "x" * 3000, "\x1b[31m"]


def problem(text: str, messages: list[Message] | None = None) -> Problem:
    return Problem(
        problem_id=text, source="s", split="t", license="l", prompt=text, gold="1", messages=messages, solution=None
    )


@pytest.fixture(scope="module")
def tokenizer():
    return bpe(["a b c <|im_start|> user assistant " * 3])


@pytest.mark.parametrize("template", [CHATML, TRICKY])
@pytest.mark.parametrize("system", [None, "be brief"])
def test_the_ids_are_those_of_transformers(tokenizer, template: str, system: str | None) -> None:
    tokenizer.chat_template = template
    several = [Message("user", "1"), Message("assistant", "2"), Message("user", "3")]
    problems = [*map(problem, TEXTS), problem("several", several)]
    policy = PolicySection(model="m", chat_template=True, system_prompt=system)
    found = encode_prompts(tokenizer, problems, policy)
    for one, ids in zip(problems, found, strict=True):
        messages = [{"role": m.role, "content": m.content} for m in one.messages or [Message("user", one.prompt)]]
        messages = [*([{"role": "system", "content": system}] if system else []), *messages]
        wanted = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=True, return_dict=True)
        assert ids == wanted["input_ids"]


def test_only_what_is_a_chat_goes_through_the_template(tokenizer, monkeypatch) -> None:
    tokenizer.chat_template = CHATML
    monkeypatch.setattr(chat, "_TRIP", 2)
    plain, chats = [problem("a"), problem("b")], [problem(t, [Message("user", t)]) for t in "cde"]
    mixed = [plain[0], chats[0], chats[1], plain[1], chats[2]]
    found = encode_prompts(tokenizer, mixed, PolicySection(model="m"))
    wanted = {p.problem_id: encode_prompts(tokenizer, [p], PolicySection(model="m"))[0] for p in mixed}
    assert found == [wanted[p.problem_id] for p in mixed]
    assert found[0] == tokenizer("a")["input_ids"] and len(found[1]) > len(found[0])
    assert encode_prompts(tokenizer, [], PolicySection(model="m", chat_template=True)) == []


@pytest.mark.parametrize(
    ("template", "words"),
    [
        ("{{ 'x' * 9999999999 }}", "takes more than 1024 MB"),
        ("{% set ns = namespace(x='y') %}{% for i in range(40) %}{% set ns.x = ns.x * 2 %}{% endfor %}", "takes more"),
        ("{% for i in range(10**9) %}x{% endfor %}", "can't be rendered: OverflowError"),
        ("{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}", "takes more than 1 s"),
        ("{{ 10 ** (10 ** 9) }}", "takes more than 1 s"),
        ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "can't be rendered: RecursionError"),
        ("{{ 'x' * 3000000 }}", "makes 3,000,000 characters of one prompt"),
        ("{% for m in messages %}", "can't be rendered: TemplateSyntaxError"),
        ("{{ raise_exception('roles\nmust\x1b[31m alternate') }}", "can't be rendered: TemplateError: roles"),
        ("{{ messages[0]['nothing']['at all'] }}", "can't be rendered: UndefinedError"),
        ("{{ ''.__class__.__mro__[1].__subclasses__() }}", "can't be rendered: SecurityError"),
        ("{{ messages.append(1) }}", "can't be rendered: SecurityError"),
        ("{% include '/etc/passwd' %}", "can't be rendered: TypeError"),
    ],
)  # fmt: skip
def test_a_hostile_template_is_one_line(tokenizer, monkeypatch, template: str, words: str) -> None:
    monkeypatch.setattr(chat, "SECONDS", 1.0)
    tokenizer.chat_template = template
    policy = PolicySection(model="m", chat_template=True)
    with pytest.raises(InputError) as caught:
        encode_prompts(tokenizer, [problem("a"), problem("b")], policy)
    said = str(caught.value)
    assert said.startswith("policy.chat_template: the model's chat template ") and words in said
    assert "\n" not in said and len(said) < 400
    tokenizer.chat_template = CHATML  # the next one is rendered
    assert encode_prompts(tokenizer, [problem("a")], policy)[0]


def test_several_templates_without_a_default(tokenizer) -> None:
    tokenizer.chat_template = {"tools": CHATML, "rag": CHATML}
    with pytest.raises(InputError, match="multiple chat templates with no default"):
        encode_prompts(tokenizer, [problem("a")], PolicySection(model="m", chat_template=True))
    tokenizer.chat_template = {"tools": "x", "default": CHATML}
    assert encode_prompts(tokenizer, [problem("a")], PolicySection(model="m", chat_template=True))[0]


def test_a_large_set_is_quick(tokenizer) -> None:
    """Also from a thread that is not the main one."""
    tokenizer.chat_template = CHATML
    policy, found = PolicySection(model="m", chat_template=True), []
    encode_prompts(tokenizer, [problem("warm")], policy)
    started = time.perf_counter()
    work = threading.Thread(
        target=lambda: found.extend(encode_prompts(tokenizer, [problem(f"1 + {i}") for i in range(7473)], policy))
    )
    work.start()
    work.join()
    assert len(found) == 7473 and time.perf_counter() - started < 60
