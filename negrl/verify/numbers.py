r"""Plain numbers, read exactly: 42, -3.50, 1,234,567, 3/4, \frac{3}{4}, 2 1/2, 1.2e5, 3 \times 10^4,
0.\overline{3}, 12%, twelve, 1.8 million, and any of them with a unit after it (18 dollars,
5\text{ cm}^2, 9 (apples), 90^\circ). Numbers in another base (1011_2) are read separately."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

from negrl.verify import units
from negrl.verify.spelled import SMALL, in_digits

_PLAIN = re.compile(r"(?:\\?\$)?([+-]?(?:[0-9]{1,18}|[0-9]{1,3}(?:,[0-9]{3}){1,5})(?:\.[0-9]{1,18})?)")
_DECIMAL = r"(?:[0-9]{1,3}(?:,[0-9]{3})+(?:\.[0-9]*)?|[0-9]+(?:\.[0-9]*)?|\.[0-9]+)"
_NUMBER = re.compile(
    rf"(?P<sign>[+-]?)\s*(?:"
    rf"(?P<whole>[0-9]+)(?:\s+|\s*(?=\\))(?:\\frac\s*(?:\{{(?P<mn>[0-9]+)\}}|(?P<mi>[0-9]))\s*(?:\{{(?P<md>[0-9]+)\}}|(?P<mj>[0-9]))|(?P<pn>[0-9]+)/(?P<pd>[0-9]+))"
    rf"|\\frac\s*(?:\{{(?P<ln>-?{_DECIMAL})\}}|(?P<sn>[0-9]))\s*(?:\{{(?P<ld>{_DECIMAL})\}}|(?P<sd>[0-9]))"
    rf"|(?P<n>{_DECIMAL})(?:\s*/\s*(?P<d>{_DECIMAL})"
    rf"|[eE](?P<e>[+-]?[0-9]{{1,3}})|\s*(?:\\times|\\cdot|\*|x)\s*10\s*\^\s*(?:\{{\s*(?P<p>[+-]?[0-9]{{1,3}})\s*\}}|(?P<q>[0-9])))?"
    rf")(?P<rest>.*)",
    re.DOTALL,
)
_REPEATING = re.compile(
    r"(?P<sign>[+-]?)(?P<n>[0-9]{0,15})\.(?P<f>[0-9]{0,15})\\(?:overline|bar)\s*(?:\{(?P<r>[0-9]{1,15})\}|(?P<s>[0-9]))"
    r"(?P<rest>.*)",
    re.DOTALL,
)
_BASED = re.compile(
    r"\(?([+-]?)([0-9A-Z]{1,60})\s*_\s*(?:([0-9])|\{\s*([0-9]{1,2})\s*\}|\{\s*(?:\\\w+\s*\{)?\s*([a-z]{3,8})\s*\}{1,2})\)?"
)
_SCALES = {
    "dozen": 12, "hundred": 100, "thousand": 1000, "million": 10**6, "billion": 10**9, "trillion": 10**12,
}  # fmt: skip
_SCALED = re.compile(
    r"\s*(?:(?P<word>{0})s?\b|\\(?:text|mathrm|textrm|mbox)\s*\{{\s*(?P<text>{0})s?\b(?P<unit>[^{{}}]*)\}})(?P<rest>.*)".format(
        "|".join(_SCALES)
    ),
    re.DOTALL | re.IGNORECASE,
)
_UNIT = re.compile(
    r"\s*(?:\\(?:text|mathrm|textrm|mbox)\s*\{\s*(?P<text>[A-Za-z][A-Za-z ./]*)\}|\((?P<paren>[A-Za-z][A-Za-z ]*)\)"
    r"|(?<=\s)(?P<words>[A-Za-z]{2,}(?:(?: |/| per |\. )[A-Za-z]+){0,7})"
    r"|(?P<attached>cm|mm|km|kg|mg|ml|mph|lbs?|hrs?|ft|km/h|(?<![0-9])m/s)|(?P<symbol>\\\$|[€£¥₹])"
    r"|\^\s*(?:\\circ|\{\s*\\circ\s*\})(?P<degrees>\s*(?:\\(?:text|mathrm)\s*\{\s*[CF]\s*\}|[CF](?![A-Za-z]))?))"
    r"\s*(?:\^\s*\{?(?P<power>[23])\}?)?\.?"
)
_CURRENCY = re.compile(r"(?P<sign>[+-]?)\s*(?P<symbol>\\\$|[€£¥₹]|(?:USD|EUR|GBP|INR)(?=[ 0-9]))\s*(?=[+-]?[.0-9\\])")
_CODES = {"USD": "dollar", "EUR": "euro", "GBP": "£", "INR": "rupee"}
_SYMBOL = re.compile(r"\\\$|[€£¥₹]")
_TRAILING = re.compile(r"\\(?:text|mathrm|textrm|mbox)\s*\{[A-Za-z ./]{1,60}\}(?:\^\s*\{?[23]\}?)?\Z")
MAX_DIGITS = 300


@dataclass(frozen=True, slots=True)
class Quantity:
    value: Fraction
    percent: bool = False
    unit: str = ""
    scale: int = 1
    """What a word like "million" multiplied the number by; part of `value` already."""
    places: int | None = None
    """Decimal places that are written, less the exponent (-4 for 3e4); None for a fraction."""

    @property
    def digits(self) -> int:
        """Significant digits that are written, of a decimal."""
        return len(str(int(abs(self.value) * Fraction(10) ** self.places))) if self.places is not None else 0


def plain(text: str) -> tuple[int, int] | None:
    """The fast lane: integers and decimals, perhaps with a $ and thousands separators, nothing else. The number is the
    first integer, divided by ten to the power of the second."""
    match = _PLAIN.fullmatch(text)
    if match is None:
        return None
    digits = match[1]
    if "," in digits:
        digits = digits.replace(",", "")
    whole, point, places = digits.partition(".")
    return (int(whole + places), len(places)) if point else (int(whole), 0)


def parse(text: str) -> Quantity | None:
    """A cleaned text as a quantity, or None if it is not a plain number."""
    if len(text) > 2 * MAX_DIGITS:
        return None
    text, currency = _currency(text)
    if text[:1].isalpha():
        text = in_digits(text)
    read = _repeating(text) if "\\" in text and (r"\overline" in text or r"\bar" in text) else _written(text)
    if read is None:
        return None
    value, rest, places = read
    percent, scale = False, 1
    if found := _SCALED.fullmatch(rest):
        scale = _SCALES[(found["word"] or found["text"]).lower()]
        rest = (rf"\text{{{found['unit']}}}" if (found["unit"] or "").strip() else "") + found["rest"]
    elif found := re.match(r"\s*(?:%|percent\b|\\(?:text|mathrm)\s*\{\s*percent\s*\})", rest):
        rest, percent = rest[found.end() :], True
    unit = _unit(rest)
    if unit is None or (currency and percent):
        return None
    if currency and unit and not unit.startswith(currency):
        if unit in units.CURRENCIES or not unit.startswith("per "):
            return None
        unit = f"{currency} {unit}"
    return Quantity(value * scale, percent, unit or currency, scale, places if scale == 1 else None)


def _currency(text: str) -> tuple[str, str]:
    """A text without the currency before its number, and the currency's name, or ""."""
    match = _CURRENCY.match(text)
    if match is None:
        return text, ""
    return match["sign"] + text[match.end() :], _CODES.get(match["symbol"]) or units.SYMBOLS[match["symbol"]]


def _written(text: str) -> tuple[Fraction, str, int | None] | None:
    """The number in digits at the start of a text, what follows it, and its decimal places."""
    match = _NUMBER.fullmatch(text)
    if match is None:
        return None
    part, places = match.groupdict(), None
    if any(v and sum(c.isdigit() for c in v) > MAX_DIGITS for k, v in part.items() if k != "rest"):
        return None
    if part["whole"]:
        over, under = part["mn"] or part["mi"] or part["pn"], part["md"] or part["mj"] or part["pd"]
        value = _ratio(over, under)
        value = None if value is None else int(part["whole"]) + value
    elif part["ln"] or part["sn"]:
        value = _ratio(part["ln"] or part["sn"], part["ld"] or part["sd"])
    else:
        value = _ratio(part["n"], part["d"] or "1")
        exponent = int(part["e"] or part["p"] or part["q"] or 0)
        value = None if value is None else value * Fraction(10) ** exponent
        places = None if part["d"] else len(part["n"].partition(".")[2]) - exponent
    if value is None:
        return None
    return -value if part["sign"] == "-" else value, part["rest"], places


def _repeating(text: str) -> tuple[Fraction, str, None] | None:
    """The same for a decimal with a bar over the digits that repeat."""
    match = _REPEATING.fullmatch(text)
    if match is None:
        return None
    digits, again = match["f"], match["r"] or match["s"]
    value = Fraction(int((match["n"] or "0") + digits), 10 ** len(digits))
    value += Fraction(int(again), (10 ** len(again) - 1) * 10 ** len(digits))
    return -value if match["sign"] == "-" else value, match["rest"], None


def based(text: str) -> tuple[str, int, int | None] | None:
    r"""A cleaned number with its base (1011_2, 2E_{16}): digits, base, and the value, which is None if the base has no
    such digits. None if the text is not of this form."""
    match = _BASED.fullmatch(text)
    if match is None or not re.search("[0-9]", match[2]):
        return None
    word = match[5]
    base = int(match[3] or match[4] or 0) if word is None else SMALL.get(word, 0)
    digits = match[1].strip("+") + (match[2].lstrip("0") or "0")
    try:
        return digits, base, int(digits, base) if base > 1 else None
    except ValueError:
        return digits, base, None


def formula(text: str) -> str:
    """A cleaned text as a LaTeX parser should see it: without its unit, and with a plain number in its simplest form
    (the parser reads 1.2e5 as 1.2 times e times 5, and -1 1/2 as -1 times 1/2)."""
    quantity = parse(text)
    if quantity is None:
        return _SYMBOL.sub("", text[: len(text) - len(_trailing(text))]).strip()
    sign, value = "-" if quantity.value < 0 else "", abs(quantity.value)
    number = rf"\frac{{{value.numerator}}}{{{value.denominator}}}"
    if value.denominator == 1:
        number = str(value.numerator)
    elif "." in text and (places := _places(value.denominator)):  # possibly rounded: compared as a decimal
        whole, part = divmod(value.numerator * (10**places // value.denominator), 10**places)
        number = f"{whole}.{part:0{places}d}"
    return sign + number + (r"\%" if quantity.percent else "")


def _places(denominator: int) -> int | None:
    """Decimal places of a fraction in lowest terms; None if they never end."""
    return next((n for n in range(MAX_DIGITS) if 10**n % denominator == 0), None)


def unit_of(text: str) -> str:
    """The unit of a number, or that of a formula: in \\text{} after it, or a currency anywhere; "" for none."""
    quantity = parse(text)
    if quantity is not None:
        return quantity.unit
    if unit := _unit(_trailing(text)):
        return unit
    return " and ".join(sorted({units.SYMBOLS[symbol] for symbol in _SYMBOL.findall(text)}))


def _trailing(text: str) -> str:
    """The \\text{unit} at the end of a formula, or ""."""
    match = _TRAILING.search(text)
    return match.group() if match and match.start() > 0 and _unit(match.group()) else ""


def _ratio(over: str, under: str) -> Fraction | None:
    top, bottom = (Fraction(_dot(s.replace(",", ""))) for s in (over, under))
    return top / bottom if bottom else None


def _dot(digits: str) -> str:
    return digits + "0" if digits.endswith(".") else digits


def _unit(rest: str) -> str | None:
    """The unit's name, "" for none; None when what follows the number is no unit that is known."""
    if not rest.strip():
        return ""
    match = _UNIT.fullmatch(rest)
    if match is None:
        return None
    if match["degrees"] is not None:
        return "degree" + {"C": " celsius", "F": " fahrenheit"}.get(match["degrees"].strip(" {}")[-1:], "")
    if match["symbol"]:
        return units.SYMBOLS[match["symbol"]]
    name = units.canonical(match["text"] or match["paren"] or match["words"] or match["attached"])
    return name if name is None or not match["power"] else name + match["power"]
