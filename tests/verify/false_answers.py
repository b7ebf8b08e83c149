r"""False answers by their class, and right ones beside them that look like them.

`FALSE` holds (gold, answer) pairs of which the answer is wrong or says nothing certain: never correct. `RESPONSES` holds
whole responses whose last word is not 43: never correct against 43. `RIGHT` and `RIGHT_RESPONSES` must be correct.

`python tests/verify/false_answers.py` prints the table of classes with how many are called correct; under the PYTHONPATH of
another checkout it counts there.
"""

from __future__ import annotations

FALSE: dict[str, list[tuple[str, str]]] = {
    "small magnitudes": [
        (r"1.6\times 10^{-19}", r"6.63\times 10^{-34}"), ("1.3e-7", "1.2e-7"), ("0.0000011", "0.0000012"),
        ("1e-9", "2e-9"), ("1e-9", "0"), ("0", "1e-9"), ("1e-9", "-1e-9"), (r"5 \times 10^{-8}", "0.00000006"),
        ("3e-12", "3e-13"), (r"6.02\times10^{-23}", r"6.03\times10^{-23}"), ("0.00000012", "1.3e-7"),
        (r"\frac{1}{1000000000}", r"\frac{1}{2000000000}"), (r"\frac{1}{10^{9}}", r"\frac{2}{10^{9}}"),
        (r"2^{-30}", r"2^{-31}"), (r"\sqrt{2}\times 10^{-8}", r"\sqrt{3}\times 10^{-8}"), (r"\pi/10^{9}", r"e/10^{9}"),
        (r"(0.0000001, 2)", "(0.0000002, 2)"), (r"\{1e-8, 1\}", r"\{3e-8, 1\}"), ("0.0000011 m", "0.0000012 m"),
        (r"\$0.0000004", r"\$0.0000003"), ("1000000.1", "1000000.2"), ("123456789.1", "123456789.3"),
        ("0.00001%", "0.00002%"), (r"x=1\times10^{-10}", r"x=2\times10^{-10}"), ("10^{-20}x", "10^{-21}x"),
    ],
    "digits apart": [
        ("31/2", "3 1/2"), ("43", "4 3"), ("43", r"4 \quad 3"), ("43", "4\n3"), ("43", "4\u00a03"), ("43", "4\u20033"),
        ("43", "4\u20093"), ("43", "4\u30003"), ("43", r"4\,3"), ("43", r"4\;3"), ("43", r"4\ 3"), ("43", "4~3"),
        ("43", r"4\!3"), ("43", r"4\qquad 3"), ("43", "4{}3"), ("43", "4{3}"), ("43", "{4}3"), ("43", "4\t3"),
        (r"\frac{1}{23}", r"\frac 1 23"), (r"\frac{1}{23}", r"\frac123"), (r"\frac{1}{23}", r"\frac{1}23"), ("12345", "12 345 "[:5] + "45"),
        ("4321", "43 21"), ("4.3", "4. 3"), ("4.3", "4 .3"), (r"\sqrt{43}", r"\sqrt 43"), ("10000", "1 0000"), ("(1, 23)", "(1, 2 3)"),
        ("43x", "4 3x"), ("43", r"\text{4}3"), ("43", r"4\text{3}"), ("2345", "2 34 5"),
    ],
    "marks": [
        ("f(x)", "f'(x)"), ("A", "A'"), ("A", "A^T"), ("f^{-1}(x)", r"\frac{1}{f(x)}"), (r"\frac{1}{f(x)}", "f^{-1}(x)"),
        ("f(x)", "f''(x)"), ("f'(x)", "f(x)"), ("x", r"x^\prime"), ("x", r"\bar{x}"), ("x", r"\vec{x}"), ("x", r"\hat{x}"),
        ("A", r"A^{\top}"), ("A", "A^*"), ("A", r"A^\dagger"), ("AB", "AB'"), ("43", "43'"), ("43", "43''"), ("x", r"\dot{x}"),
        ("z", r"\overline{z}"), ("43", r"\overline{43}"), ("43", r"\phantom{43}"), ("43", r"\cancel{43}"), ("43", r"\not 43"),
        ("43", r"\color{white}{44}43"), ("43", "43‰"), ("43", r"\mathcal{43}"), ("x", r"\widehat{x}"), ("43", "43\u0305"), ("43", "4\u03363\u0336"),
        ("43", "~~43~~"), ("43", "~43"), ("43", "43?"), ("y", r"\ddot y"), ("A", "A^{T}"), ("43", r"43^{\text{th}}"), ("43", "43rd"),
    ],
    "case and brackets": [
        ("x", "X"), ("X", "x"), ("x+1", "X+1"), ("e", "E"), (r"\Gamma", r"\gamma"), (r"\pi", r"\Pi"), ("ab", "aB"), ("2n", "2N"),
        ("(3,4)", r"\{3,4\}"), (r"\{3,4\}", "(3,4)"), ("[1,2)", "(1,2]"), ("(1,2]", "[1,2)"), ("(3,4)", "(4,3)"), ("(3,4)", "[3,4]"),
        ("[3,4]", "(3,4)"), ("(3,4)", "4,3"), ("[0,1]", r"\{0,1\}"), ("(1,2,3)", "(1,3,2)"), ("(1,2,3)", r"\{1,2,3\}"),
        (r"(1,2)\cup(3,4)", r"(1,2]\cup(3,4)"), (r"(1,2)\cup(3,4)", r"(1,2)\cap(3,4)"), (r"(-\infty,3)", r"(-\infty,3]"), ("x<3", r"x\le 3"),
        ("x>3", "x<3"), (r"\{1,2\}", r"\{1,2,2,3\}"), ("B", "b"), ("((1,2),3)", "(1,(2,3))"), ("43", r"\|43\|"), ("43", "43|44"),
    ],
    "equations": [
        ("43", "44=43"), ("43", "x=44=43"), ("43", "2+2=43"), ("44", "43=43=44"), ("43", "43=44"), ("43", "1=2=43"),
        ("43", "x=43=44"), ("43", "43=x=44"), ("43", "2x=43"), ("43", "x+1=43"), ("43", "43="), ("43", r"40+2=43"), ("43", "44-2=43"),
        ("x=43", "x=44=43"), ("43", "43 = 43 + 1"), ("43", r"\frac{86}{3}=43"), ("43", "43==44"), ("43", "x=43, y=44"), ("43", r"43 \neq 43"),
        ("43", "43 < 44"), ("43", "> 43"), ("43", r"\geq 43"), ("43", r"43 \Rightarrow 44"), ("43", r"43 \to 44"), ("43", "43 := 44"),
        ("43", r"43 \equiv 44"), ("43", r"43\mod 50"), ("43", r"\approx 43"), ("x=1,y=2", "x=2,y=1"), ("y=5", "x=5"), ("43", "0=0=43"),
    ],
    "words after the number": [
        ("43", f"43 {word}")
        for word in (
            "tenths", "thousandths", "hundredths", "gross", "lakh", "crore", "quadrillion", "googol", "in binary", "in hex", "base 8",
            "reciprocal", "(wrong)", "unless", "percentage points", "basis points", "per mille", "squared", "cubed", "halves", "factorial",
            "or so", "is wrong", "not", "(not)", "minus 1", "plus one", "times two", "modulo 5", "(approx)", "(mod 50)", "k", "thousand million",
            "dozens", "scores", "score", "negative", "below zero", "bn", "th", "nd", "in base 5", "(false)", "(I guess)", "less", "short",
        )
    ]
    + [("43", rf"43\text{{ {word}}}") for word in ("tenths", "gross", "lakh", "wrong", "reciprocal", "not", "44")],
    "units and currencies": [
        (r"\$43", "43 cents"), (r"\$43", "€43"), (r"\$43", "£43"), ("€43", r"\$43"), ("£43", "€43"), ("43 cents", r"\$43"), (r"\$43", "¥43"),
        (r"\$43", "43 euros"), (r"\$43", "43 pounds"), (r"\$43", "₹43"), (r"\$43", "43€"), ("43 cm", "43 m"), (r"43\text{ cm}", r"43\text{ km}"),
        (r"43\text{ cm}", r"43\text{ cm}^2"), (r"43\text{ cm}^2", "43 cm"), (r"43\text{ cm}^2", r"43\text{ cm}^3"), ("43 kg", "43 g"), ("43 hours", "43 minutes"),
        ("43 miles", "43 miles per hour"), ("43 mph", "43 km/h"), ("43 apples", "43 oranges"), ("43 degrees Celsius", "43 degrees Fahrenheit"),
        (r"43^\circ", "43 radians"), ("43 boys", "43 girls"), ("43 square feet", "43 square inches"), (r"8\sqrt{3}\text{ cm}", r"8\sqrt{3}\text{ km}"),
        (r"\$5\sqrt{2}", r"€5\sqrt{2}"), (r"(\$5, \$6)", "(€5, €6)"), ("43 liters", "43 gallons"), ("43 dollars", r"43 \text{ pesos}"), ("43 days", "43 weeks"),
    ],
    "unevaluated": [
        ("2", r"\int_0^2 1 dx"), ("10", r"\binom{5}{2}"), ("6", r"\sum_{k=1}^3 k"), ("6", r"\prod_{k=1}^3 k"), ("43", r"\lim_{x\to 0} 43"),
        ("43", r"\int_0^{43} dx"), ("43", r"\binom{43}{1}"), ("43", r"\sum_{i=1}^{43} 1"), ("1", r"\lim_{x \to 0} \frac{\sin x}{x}"),
        ("x^2", r"\int 2x dx"), ("120", r"\prod_{i=1}^5 i"), ("252", r"\binom{10}{5}"), ("252", r"\dbinom{10}{5}"), ("10", r"{5 \choose 2}"),
        (r"\frac{1}{3}", r"\int_0^1 x^2 dx"), ("55", r"\sum_{n=1}^{10} n"), ("2", r"\sum_{n=0}^\infty 2^{-n}"), ("e", r"\lim_{n\to\infty}(1+1/n)^n"),
        ("20", r"2\binom{5}{2}"), ("11", r"\binom{5}{2}+1"), ("x=10", r"x=\binom{5}{2}"), ("(10,1)", r"(\binom{5}{2},1)"),
    ],
    "rounding": [
        ("3.141593", "355/113"), ("3.141593", r"\pi"), ("1.414214", r"\sqrt{2}"), ("0.333333", r"\frac13"), ("2.718282", "e"), ("0.142857", "1/7"),
        ("3.1416", r"\pi"), (r"\pi", "3.14"), (r"\pi", "3.1416"), (r"\pi", "22/7"), (r"\pi", "355/113"), (r"\sqrt{2}", "1.41"), (r"\frac13", "0.33"), ("1/3", "0.3"),
        ("2/3", "0.67"), ("2/3", "0.66666"), ("1/3", "0.333334"), ("0.6667", "2/3"), ("1.0000001", "1"), ("1", "0.9999999"), ("1", "1.0000001"), (r"\pi", "3.141592"),
        (r"\frac{22}{7}", "3.1428"), ("100.00001", "100.00002"), ("99.5", "100"),
    ],
}  # fmt: skip

RESPONSES: dict[str, list[str]] = {
    "not visible": [
        *(f"<{tag}>\\boxed{{43}}</{close}> I stop." for tag, close in (
            ("think", "think"), ("THINK", "THINK"), ("think ", "think "), (" think", "think"), ("thinking", "thinking"), ("Thought", "Thought"),
            ("reasoning", "reasoning"), ("scratchpad", "scratchpad"), ("think id='1'", "think"), ("|begin_of_thought|", "|end_of_thought|"), ("analysis", "analysis"),
        )),
        r"[THINK]\boxed{43}[/THINK]", r"&lt;think&gt;\boxed{43}&lt;/think&gt;", r"\boxed{43}</THINK> no idea", r"<THINK>hm \boxed{43}", r"<thinking>The answer is 43.",
        r"<!-- \boxed{43} -->", r"<!-- \boxed{43}", "```\n\\boxed{43}\n```", "```tex\n\\boxed{43}", r"Use \verb|\boxed{43}| here.", r"`\boxed{43}`", "% \\boxed{43}",
        "text % \\boxed{43}", "\\begin{verbatim}\n\\boxed{43}\n\\end{verbatim}", "\\begin{comment}\\boxed{43}\\end{comment}", r"\iffalse \boxed{43} \fi", r"\phantom{\boxed{43}}",
        r"~~\boxed{43}~~", r"<del>\boxed{43}</del>", r"\cancel{\boxed{43}}", r"\sout{\boxed{43}}", "```\n#### 43\n```", "```\nThe answer is 43.\n```", r"\verb+The answer is \boxed{43}+",
    ],
    "instructions and conditions": [
        r"Put it in \boxed{43}.", r"Please put your final answer in \boxed{43}.", r"Write your answer as in \boxed{43}.", r"The answer should be given inside \boxed{43}.",
        r"Remember to enclose the result within \boxed{43}", r"Use the format \boxed{43}", r"The answer must be in the form of e.g. \boxed{43}", r"For example, \boxed{43}",
        r"such as \boxed{43}", "If the answer is 43 then we are done.", r"If the answer is \boxed{43} then it is even.", "Suppose the answer is 43.", "Assume the answer is 43",
        "Whether the answer is 43 is open.", r"Unless the answer is \boxed{43} we fail.", "The answer is not 43.", r"The answer is not \boxed{43}.", r"It isn't \boxed{43}.",
        r"The wrong answer is \boxed{43}.", r"The answer cannot be \boxed{43}.", r"instead of \boxed{43}", "The answer would be 43 if x were 1.", "The answer is 43 if x is even.",
        "Imagine the answer is 43", r"x \neq \boxed{43}", "The incorrect answer is 43.", "Is the answer 43?", "The answer is 43?", r"\boxed{43}?", "The answer is either 43 or 44.",
        "The answer is not equal to 43", r"rather than \boxed{43}",
    ],
    "another last word": [
        "\\boxed{43}\n#### 44", r"\boxed{43}, but the answer is 44.", r"\boxed{43}. Wait, actually it is 44.", r"\boxed{43}. No, that's wrong.", "The answer is 43. But the answer is 44.",
        "#### 44\nThe answer is 43.", "The answer is 43. Wait, it is 44.", r"\boxed{43} \\ Hence it is 44", r"\boxed{43}? I doubt it.", r"\boxed{43} or 44", r"\boxed{43} or maybe 44",
        r"The final answer is \boxed{43}. So Bob has 44 apples.", "Answer: 43. Correction: 44", "The answer is 43.\n\nFinal: 44", r"\boxed{43} is wrong.", r"\boxed{43} was a mistake.",
        "\\boxed{43}\n44", "\\boxed{43}\n\n**44**", r"\boxed{43} = 44", r"\boxed{43}. Sorry, 44.", r"\boxed{43}. Scratch that: 44.", r"\boxed{43}. Hmm, let me try again.",
        r"\boxed{43}. Actually, 44.", r"\boxed{43}. I meant 44.", r"\boxed{43}" + "\nA: 44", r"\boxed{43}. The answer should be 44.", r"\boxed{43}. It turns out to be 44.",
        r"\boxed{43}. That is incorrect.", r"\boxed{43} \boxed{44}", r"\boxed{43} then \boxed{44}", "#### 43\n#### 44", "A: 43\nA: 44", r"\boxed{43}. The answer is not 43.",
        r"\boxed{43}. Ignore that.", "The answer is 43, no, 44.", r"\boxed{43} -> 44", r"\boxed{43} → 44", "The answer is 43. Oops.", r"\boxed{43} is not correct.",
        "#### 43 (wrong)", "#### 43 or 44", "#### 43 no wait 44", r"\boxed{43}. Answer: 44", r"\boxed{43}. Hence the result is 44.", r"\boxed{43}. That makes 44.",
    ],
    "part of more": [
        r"\boxed{43} million", r"\boxed{43} thousand", r"$-\boxed{43}$", r"$2\cdot\boxed{43}$", r"\boxed{4}3", r"1\boxed{43}", r"$\boxed{43}^2$", r"$\boxed{43}+1$", r"$\boxed{43}\cdot 2$",
        r"$\boxed{43}/2$", r"$\frac{1}{\boxed{43}}$", r"$2^{\boxed{43}}$", r"\boxed{43}.5", r"\boxed{43} tenths", r"\boxed{43} dozen", r"$= -\boxed{43}$", r"$\sqrt{\boxed{43}}$", r"$x_{\boxed{43}}$",
        r"\boxed{43} lakh", r"\boxed{43} hundredths", r"$\boxed{43} \times 10$", r"$\boxed{43}\pi$", r"\boxed{43} billion", r"\boxed{43} halves", r"$\boxed{43} \pm 1$", r"\boxed{4}\boxed{3}",
    ],
}  # fmt: skip

RIGHT: list[tuple[str, str]] = [
    (r"1.6\times 10^{-19}", "1.6e-19"), ("0.0000011", r"1.1 \times 10^{-6}"), ("1.3e-7", "0.00000013"), (r"\frac{1}{2000000000}", "5e-10"),
    ("3 1/2", "7/2"), ("3.5", r"3\frac{1}{2}"), ("1234", r"1\,234"), ("10000", "10 000"), ("1234567", "1 234 567"), ("1234567", "1,234,567"), ("10000", "10\u00a0000"),
    ("10000", r"10\;000"), ("10000", r"10{,}000"), ("32000", r"32,\!000"), (r"\frac{1}{2}", r"\frac 1 2"), (r"\frac{1}{2}", r"\frac12"), (r"\frac{1}{23}", r"\frac1{23}"), (r"\sqrt{2}", r"\sqrt 2"),
    ("f'(x)", "f'(x)"), ("f'(x)", "f ' ( x )"), ("A^T", "A ^ T"), ("x^{-1}", r"\frac{1}{x}"), (r"\sin x", r"\sin{x}"), ("x", "(x)"), ("43", r"\mathrm{43}"),
    ("(3,4)", "(3, 4)"), (r"\{3,4\}", r"\{4,3\}"), (r"\{3,4\}", "4, 3"), ("(3,4)", r"\left(3,4\right)"), ("[1,2)", "[1, 2)"), ("(3,4)", "(x,y)=(3,4)"), (r"(-\infty,3)", "x<3"),
    ("(0.5,1)", r"(\frac12,1)"), (r"\{\frac12,3\}", r"\{3, 0.5\}"), ("6, 7", "6 or 7"), ("43", r"\{43\}"), ("B", r"\text{B}"), ("B", "(B)"),
    ("43", "x=43"), ("43", "43=x"), ("43", "x = 40+3 = 43"), ("43", "40+3=43"), ("x=43", "43"), ("y=2x+1", "2x+1"), ("43", "f(2)=43"), ("43", "= 43"), ("x^2-1", "(x-1)(x+1)=x^2-1"),
    ("43", "43 apples"), ("43", "43 dollars"), ("43", "43 cents"), ("43 apples", "43"), ("43", "43 miles per hour"), ("43", "43 dollars in total"), ("43", "43 years old"), ("43", r"43\text{ cm}^2"),
    ("43", "43 (apples)"), ("43000", "43 thousand"), ("43", r"\$43"), (r"\$43", "43 dollars"), (r"\$43", "43"), ("43 dollars", r"\$43"), ("€43", "43 euros"), ("£43", "43 pounds"), ("43 cm", "43 centimeters"),
    ("43 m", r"43\text{ m}"), (r"43^\circ", "43 degrees"), ("43 mph", "43 miles per hour"), (r"43\text{ cm}^2", "43 square centimeters"), ("43 km/h", "43 kilometers per hour"),
    (r"\binom{5}{2}", r"\binom{5}{2}"), (r"\binom{n}{2}", r"\binom{n}{2}"), ("5!", "120"), ("2^{10}", "1024"), ("1/3", "0.333333"), ("1/3", "0.3333333333"), (r"\sqrt{2}", "1.414214"), (r"\pi", "3.14159265"), ("2/3", "0.666667"),
    ("10^{12}", "10^12"), ("0.5", "50%"), ("50", "50%"), ("43", "forty-three"), ("43", "43.0"), ("43", "**43**"), ("43", "`43`"),
]  # fmt: skip

RIGHT_RESPONSES: list[str] = [
    r"<think>44</think>\boxed{43}", r"<THINK>\boxed{44}</THINK> \boxed{43}", r"\boxed{44} <!-- old --> \boxed{43}", "```\nprint(44)\n```\nThe answer is 43.", "`x = 44`\nThe answer is 43.",
    r"50% of 86 is \boxed{43}.", r"If x = 2, then the answer is \boxed{43}.", r"If x is 2, the answer is 43.", "The answer is 44. No wait. The answer is 43.", r"\boxed{44} is wrong. \boxed{43}",
    r"The answer is not 44. The answer is 43.", r"Wait, that was wrong. \boxed{43}", "The answer is 44.\n#### 43", r"#### 44" + "\n" + r"\boxed{43}", r"\boxed{43} apples.", r"\boxed{43}. I hope it is correct.",
    "\\boxed{43}\nThe answer is 43.", "\\boxed{43}\n#### 43", r"$\boxed{43}$ dollars", r"\boxed{43}, since 40 + 3 = 43.", r"= \boxed{43}.$$", r"\(\boxed{43}\)", r"- \boxed{43}", r"**\boxed{43}**", r"\boxed{43}!",
    "The answer is **43**.", "The answer is: 43", "Answer: 43", "A: 43", r"We put it in a box: \boxed{43}.", r"\boxed{43}. Put the answer in \boxed{}.", r"$$x = \boxed{43}$$ as wanted.", r"\boxed{43} \text{ cm}", r"\boxed{43}^\circ",
    r"\boxed{43} (see above).", r"Final Answer: The final answer is $43$. I hope it is correct.", r"\boxed{43}" + "\n\n**43**",
]  # fmt: skip


def main() -> None:
    """The table of classes."""
    from negrl.recipe import VerifySection
    from negrl.verify import Verifier

    verifier = Verifier(VerifySection(workers=2))
    print("| class | cases | called correct | incorrect | undecided |\n|---|---|---|---|---|")
    groups = [(name, [(gold, rf"\boxed{{{answer}}}") for gold, answer in pairs]) for name, pairs in FALSE.items()]
    groups += [(f"response: {name}", [("43", text) for text in texts]) for name, texts in RESPONSES.items()]
    groups += [("right answers", [(gold, rf"\boxed{{{answer}}}") for gold, answer in RIGHT])]
    groups += [("right responses", [("43", text) for text in RIGHT_RESPONSES])]
    for name, items in groups:
        said = [v.value for v in verifier.verify_all([(text, gold, "stop") for gold, text in items])]
        counts = " | ".join(str(said.count(value)) for value in ("correct", "incorrect", "undecided"))
        print(f"| {name} | {len(items)} | {counts} |")


if __name__ == "__main__":
    main()
