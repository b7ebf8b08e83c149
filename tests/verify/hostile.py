r"""Answers made to hang, exhaust, crash or fool a checker; none of them means 43.

Sources: math-verify's issues (65 and others), texts of models that looped, and what sympy evaluates
eagerly: towers, factorials, sums, integrals, limits, matrices. `ANSWERS` are put in a box or taken as they
are, `GOLDS` are used as the gold answer, `RESPONSES` are whole responses.
"""

from __future__ import annotations

import random
import string

SENTINEL = "PWNED"
PYTHON = f"open('{SENTINEL}','w').write('x')"


def _tower(base: str, height: int) -> str:
    return (base + "^{") * height + base + "}" * height


def _nested(before: str, middle: str, after: str, depth: int) -> str:
    return before * depth + middle + after * depth


def _noise(seed: int, length: int, alphabet: str) -> str:
    rng = random.Random(seed)
    return "".join(rng.choice(alphabet) for _ in range(length))


def _small() -> dict[str, str]:
    """Short enough to pass for an answer: these reach math-verify."""
    out = {f"tower of {base}, height {h}": _tower(base, h) for base in ("9", "99", "x", "0.5") for h in (3, 4, 6, 30)}
    out |= {
        f"power {p}": p
        for p in (
            "9^{999999999}",
            "2^{2^{100}}",
            "99999999^{99999999}",
            "(-2)^{10^{12}}",
            "1.0000001^{10^{15}}",
            "x^{10^{10}}",
            "(x+1)^{100000}",
            "(a+b+c+d)^{400}",
            r"\sqrt{9^{9^{9}}}",
            r"\sqrt[10^{9}]{2}",
            r"10^{-10^{10}}",
            r"e^{e^{e^{e^{10}}}}",
            r"9^{9^{9}} \bmod 7",
            r"\left(9^{9}\right)^{9^{9}}",
            "9^{-9^{9^{9}}}",
            r"\frac{1}{9^{9^{9^{9}}}}",
            "2^{-2^{64}}+1",
        )
    }
    out |= {
        f"factorial {f}": f
        for f in (
            "99999999!",
            "((9!)!)!",
            "(10^{12})!",
            "9!!!!!!!!",
            r"\frac{99999999!}{99999998!}",
            "(9999999!)^{9999999}",
            "(-1)!",
            r"\binom{10^{12}}{10^{6}}",
            r"\binom{99999999}{9999999}",
            r"\Gamma(10^{9})",
            r"\Gamma(9^{9^{9}})",
            "x!!!!!!",
        )
    }
    out |= {
        f"eager {e}": e
        for e in (
            r"\sum_{n=1}^{10^{12}} \frac{1}{n^{n}}",
            r"\sum_{n=1}^{\infty} \frac{\sin n}{n^{n}}",
            r"\sum_{k=0}^{10^{9}} \binom{10^{9}}{k}",
            r"\prod_{n=1}^{10^{9}} n",
            r"\prod_{n=1}^{\infty} (1+\frac{1}{n^{n}})",
            r"\sum_{a=1}^{999}\sum_{b=1}^{999}\sum_{c=1}^{999} abc",
            r"\int_0^{\infty} \frac{\sin(x^{x})}{x^{x}+\ln x} dx",
            r"\int \frac{e^{x^{2}} \sin(x^{3})}{\ln(x^{5}+1)} dx",
            r"\int_0^1\int_0^1\int_0^1 \sqrt{x^2+y^2+z^2} dx dy dz",
            r"\int \sqrt{\tan x + \sqrt{\sin x}} dx",
            r"\lim_{x \to 0} \frac{\sin(\tan x)-\tan(\sin x)}{x^{7}}",
            r"\lim_{n \to \infty} (n!)^{1/n^{n}}",
            r"\lim_{x\to\infty} x^{x^{x}}",
            r"\frac{d^{99}}{dx^{99}} \sin(x^{99})",
            r"\frac{d}{dx} x^{x^{x^{x^{x}}}}",
            r"\sin(9^{9^{9}})",
            r"\ln(9^{9^{9^{9}}})",
            r"\cos(10^{10^{10}})",
            r"\log_{9^{9^{9}}} 9^{9^{9^{9}}}",
            r"\zeta(10^{9})",
            r"\gcd(9^{9^{9}}, 6^{9^{9}})",
            r"9^{9^{9}} \mod 10",
            r"\lfloor 9^{9^{9}} \rfloor",
            r"|9^{9^{9}}|",
            r"\sin(\sin(\sin(\sin(\sin(\sin(x^{99}))))))",
            r"x^{99999}+x+1=0",
            r"\sqrt{2}^{\sqrt{2}^{\sqrt{2}^{\sqrt{2}^{99999}}}}",
            r"\{x : x^{999} = 2\}",
            r"(1,9^{9^{9^{9}}})",
            r"[0, 99999999!]",
            r"9^{9^{9^{9}}} < x < 9^{9^{9^{9^{9}}}}",
            r"\{9^{9^{9}}, 8^{8^{8^{8}}}, 7^{7^{7^{7}}}\}",
            r"x^{1000}-1 = (x-1)(x+1)",
        )
    }
    out |= {
        f"matrix {m}": m
        for m in (
            r"\operatorname{zeros}(12000,12000)",
            r"\operatorname{ones}(9999,9999)",
            r"\operatorname{eye}(20000)",
            r"\operatorname{zeros}(10^{9},10^{9})",
            r"\operatorname{det}(\operatorname{eye}(300))",
            r"\operatorname{diag}(1,2)^{99999999}",
            r"\operatorname{hilbert}(3000)",
            r"\begin{pmatrix} 1 & 2 \\ 3 & 4 \end{pmatrix}^{99999999}",
            r"\begin{pmatrix} x & y \\ z & w \end{pmatrix}^{500}",
            r"\begin{pmatrix}"
            + r" \\ ".join(" & ".join(f"x_{i}" for i in range(9)) for _ in range(9))
            + r"\end{pmatrix}^{-1}",
            r"\operatorname{eigenvects}(\begin{pmatrix} 1 & 2 & x \\ 3 & y & 4 \\ z & 5 & 6 \end{pmatrix})",
            r"\begin{pmatrix} & & \\ \\ \end{pmatrix}",
            r"\operatorname{svd}(\begin{pmatrix} 1 & 2 \\ 3 & x \end{pmatrix})",
            r"\det \begin{vmatrix} a & b & c \\ d & e & f \\ g & h & i \end{vmatrix}^{99}",
        )
    }
    out |= {
        f"depth {d} of {b}": _nested(b, "1", a, d)
        for b, a, d in (
            ("{", "}", 38),
            ("{", "}", 450),
            ("(", ")", 38),
            ("(", ")", 450),
            ("[", "]", 450),
            (r"\sqrt{", "}", 38),
            (r"\sqrt{", "}", 140),
            (r"\frac{1}{", "}", 38),
            (r"\frac{1}{1+", "}", 39),
            (r"\frac{1}{", "}", 99),
            ("-", "", 900),
            ("|", "|", 400),
            (r"\left(", r"\right)", 60),
            ("x^{", "}", 38),
            ("x_{", "}", 39),
            ("sin(", ")", 40),
            (r"\sin", "", 200),
            ("+", "", 900),
            ("!", "", 900),
            ("1!", "!", 400),
        )
    }
    out |= {
        f"python {p}": p
        for p in (
            PYTHON,
            f"__import__('os').system('touch {SENTINEL}')",
            rf"\text{{__import__('os').system('touch {SENTINEL}')}}",
            f"().__class__.__base__.__subclasses__()[0]({SENTINEL!r})",
            f'exec("{PYTHON}")',
            f"eval(compile(\"{PYTHON}\",'','exec'))",
            f"lambda: {PYTHON}",
            rf"\operatorname{{__import__}}('os').system('touch {SENTINEL}')",
            r"\input{/etc/passwd}",
            rf"\write18{{touch {SENTINEL}}}",
            f"$(touch {SENTINEL})",
            f"`touch {SENTINEL}`",
            f"; touch {SENTINEL} #",
            "{{7*7}}",
            "<script>alert(1)</script>",
            "%s%s%s%n",
            "' OR 1=1 --",
        )
    }
    out |= {
        f"characters {name}": text
        for name, text in {
            "null": "4\x003",
            "bidi": "\u202e34\u202c",
            "isolate": "\u206643\u2069 4",
            "joiners": "4\u200d\u200c\u200b4",
            "surrogate": "\ud800 43",
            "escape": "\x1b[2J43",
            "combining": "4" + "\u0301" * 500,
            "arabic digits": "\u0664\u0663\u0660",
            "superscripts": "9" + "⁹" * 400,
            "fullwidth": "４３０",
            "emoji": "🧮" * 300,
            "tabs": "4\t\t\t\v\f4",
            "bom": "\ufeff44",
            "private": "\ue000\uf8ff",
            "line ends": "4\u20284\u20294",
            "zalgo": "x" + "\u0335\u0321" * 300,
            "tags": "\U000e0041\U000e0042",
            "replacement": "\ufffd" * 99,
            "mixed": "4\u0000\u202e\ud800\x7f",
        }.items()
    }
    out |= {
        f"shape {name}": text
        for name, text in {
            "digits": "7" * 990,
            "decimals": "0." + "3" * 990,
            "exponent": "1e999999999",
            "tiny": "1e-999999999",
            "commas": "1," * 490 + "1",
            "signs": "-+" * 490 + "4",
            "blank frac": r"\frac{}{}",
            "half frac": r"\frac{",
            "open sqrt": r"\sqrt",
            "zero division": r"\frac{1}{0}",
            "zero tower": "0^{0^{0^{0}}}",
            "nan": r"\text{nan}",
            "zoo": r"\frac{0}{0}",
            "infinities": r"\infty-\infty+\frac{\infty}{\infty}",
            "backslashes": "\\" * 900,
            "dollars": "$" * 901,
            "carets": "^" * 900,
            "underscores": "_" * 900,
            "equals": "4=" * 300 + "4",
            "ands": "1 and " * 160 + "1",
            "ors": "x=1 or " * 140 + "x=2",
            "stars": "*" * 901,
            "percents": "%" * 900,
            "colons": ":" * 900,
            "points": "." * 900,
            "overlines": r"0.\overline{" + "3" * 900 + "}",
            "bases": "Z" * 59 + "1_{36}",
            "letters": "a" * 990,
            "words": "one hundred " * 80,
            "tildes": "~" * 900,
            "unions": r"(1,2)\cup" * 90 + "(3,4)",
            "roots": r"\sqrt" * 160 + "2",
            "frac chain": r"\frac" * 150 + "12",
            "absolute": "|" * 900,
            "relations": "x<" * 300 + "y",
            "primes": "f" + "'" * 900,
            "issue 65": _noise(65, 600, r"0123456789+-*/^(){}\frac[]xyz "),
            "noise": _noise(1, 900, string.printable),
            "noise 2": _noise(2, 900, "()^9!{}"),
            "noise 3": _noise(3, 300, r"\{}^_&$%#~"),
            "polynomial": "+".join(f"{i}x^{{{i}}}" for i in range(1, 100)),
            "system": ", ".join(f"x_{i}={i}!!" for i in range(90)),
        }.items()
    }
    return out


def _large() -> dict[str, str]:
    """Up to millions of characters."""
    size = 10**6
    out = {
        f"{d:g} deep {b}": _nested(b, "1", a, d)
        for b, a in (
            ("{", "}"),
            ("(", ")"),
            (r"\frac{1}{", "}"),
            (r"\sqrt{", "}"),
            ("x^{", "}"),
            ("[", "]"),
            (r"\text{", "}"),
            ("**", "**"),
            ("$", "$"),
        )
        for d in (1000, 10**5)
    }
    out |= {
        f"1e6 of {name}": (text * (size // len(text) + 1))[:size]
        for name, text in {
            "letters": "a",
            "digits": "7",
            "blanks": " ",
            "ones": "1 ",
            "commas": "1,",
            "braces": "{",
            "closers": "}",
            "dollars": "$",
            "carets": "9^",
            "factorials": "9!",
            "backslashes": "\\",
            "newlines": "\n",
            "nulls": "\0",
            "zero width": "\u200b",
            "bidi": "\u202e",
            "emoji": "🧮",
            "words": "the answer is ",
            "stars": "*",
            "hashes": "#",
            "dots": ".",
            "slashes": "1/",
            "units": " cm",
            "numbers in words": "twenty ",
            "minus": "-",
            "boxes": r"\boxed{",
            "fracs": r"\frac{1}{2}",
            "rows": r"1 & 2 \\ ",
        }.items()
    }
    return out


SMALL = _small()
LARGE = _large()
ANSWERS = {**SMALL, **LARGE}
GOLDS = {name: text for i, (name, text) in enumerate(ANSWERS.items()) if i % 5 == 0}
RESPONSES = {
    **{f"only {name}": text for name, text in LARGE.items()},
    "1e5 unclosed boxes": r"\boxed{" * 10**5,
    "1e5 empty boxes": r"\boxed{}" * 10**5,
    "1e5 joined boxes": r"\boxed{1}, \boxed{2}, " * 10**5,
    "1e5 nested boxes": _nested(r"\boxed{", "5", "}", 10**5),
    "1e5 boxes": r"so \boxed{1} " * 10**5 + r"\boxed{4}",
    "1e5 thinks": "<think>" * 10**5 + r"\boxed{44}",
    "1e5 closed thinks": "<think></think>" * 10**5 + r"\boxed{44}",
    "1e5 crossed thinks": "</think><think>" * 10**5 + r"\boxed{44}",
    "1e5 answers": "the answer is " * 10**5,
    "1e5 answers and colons": "answer: " * 10**5 + "44",
    "1e6 blanks after": "the answer is" + " " * 10**6,
    "1e6 hashes": "#" * 10**6 + " 44",
    "1e5 hash lines": "#### 44\n" * 10**5,
    "1e5 A lines": "A: 44\n" * 10**5,
    "1e6 blanks before A": " " * 10**6 + "A: 44",
    "unclosed math": "The answer is $" + "x" * 10**6,
    "unclosed bold": "The answer is **" + "x" * 10**6,
    "answer of 1e6": "answer " + "a" * 10**6 + " is 44",
    "1e5 answer equals": "answer =" * 10**5,
    "box in think": r"<think>\boxed{43}</think>",
    "empty box": r"\boxed{}",
    "blank box": r"\boxed{   }",
    "unclosed box": r"\boxed{43",
    "unclosed box after a box": r"\boxed{43} \boxed{4",
    "escaped brace": r"\boxed{43\}",
    "minus signs": "-" * 10**6 + "44",
    "numbers": "1 " * 10**6 + "44",
    "1e6 digits and commas": "1," * 10**6 + "44",
    "chain marks": "!" * 10**6 + "44",
    "long fraction": "1/" * 10**6 + "44",
}
