"""The units that an answer may carry: measures, currencies and things that are counted.

A list of what is allowed, because a word after a number may just as well change it ("43 lakh", "43 gross", "43 in
binary") or take it back ("43 (wrong)"). A number with any other word after it is not read as a number.
"""

from __future__ import annotations

import re

_MEASURES = """
mm millimeter millimetre|cm centimeter centimetre|dm decimeter decimetre|meter m metre|km kilometer kilometre
inch in inches|foot ft feet|yard yd|mile mi|nm nanometer nanometre|micrometer micrometre|lightyear
mg milligram milligramme|gram g gm gramme|kg kilogram kilo kilogramme|ton|tonne|ounce oz|pound lb
ml milliliter millilitre|cl centiliter centilitre|liter l litre|gallon gal|quart qt|pint pt|cup|tablespoon tbsp
teaspoon tsp|acre|hectare ha|second s sec|millisecond ms|minute min|hour h hr|day|week wk|month|year yr|decade|century
centuries|knot|degree deg|radian rad|gradian|celsius|fahrenheit|kelvin|hz hertz|khz|mhz|joule|kj kilojoule
calorie cal|kcal kilocalorie|watt|kw kilowatt|kwh|volt|ampere amp|ohm|newton|pascal|kpa|mole mol|bit|byte|kb kilobyte
mb megabyte|gb gigabyte|tb terabyte|unit|pixel|lap|revolution|rpm
"""
_MONEY = """
dollar usd buck|cent ct|euro eur|£ sterling gbp|pence|yen jpy|yuan rmb cny|rupee inr|peso|franc|ruble|penny pennies
nickel|dime
"""
_THINGS = """
people person persons child children kid kids man men woman women boy girl student pupil teacher adult guest friend
parent baby babies worker employee customer visitor passenger player member camper driver soldier follower voter
patient participant contestant grandchild grandchildren sibling brother sister cousin senior junior freshman family
families apple orange banana peach peaches pear plum grape cherry cherries strawberry strawberries blueberry
blueberries berry berries lemon lime mango mangoes melon watermelon pineapple tomato tomatoes potato potatoes onion
carrot cucumber pumpkin vegetable fruit egg cookie cake cupcake pie muffin brownie donut doughnut pancake pastry
pastries pizza slice sandwich sandwiches burger hamburger hotdog taco steak meal snack chip cracker pretzel candy
candies chocolate lollipop jellybean marshmallow gumball nut peanut seed bean loaf loaves bagel biscuit roll croissant
sausage meatball dumpling drink soda juice milk coffee tea water lemonade bottle can glass glasses mug jar carton jug
barrel bucket bag box boxes basket pack package packet crate sack tray container bin tube tank bowl plate dish dishes
spoon fork knife knives book page chapter magazine newspaper comic novel story stories poem essay paper sheet notebook
folder album card letter email envelope stamp poster photo photograph picture painting drawing file document report
word line question problem answer test exam quiz quizzes lesson assignment mistake pencil pen crayon marker eraser
sticker ruler brush brushes toy doll ball balloon marble game puzzle block lego bead button coin bill ticket token
prize gift present medal trophy trophies badge bracelet necklace ring earring jewel gem shirt dress dresses skirt coat
jacket hat cap shoe sock glove scarf scarves sweater blanket pillow towel sheep goat cow pig horse dog cat puppy
puppies kitten bird chicken duck goose geese turkey rabbit mouse mice rat frog turtle fish fishes shark whale dolphin
lion tiger bear elephant monkey giraffe zebra snake lizard spider ant bee butterfly butterflies insect bug animal pet
lamb penguin crab lobster oyster egg flower rose tulip daisy daisies sunflower lily lilies petal bouquet leaf leaves
tree bush bushes plant branch branches log stick rock stone pebble shell seashell brick plank tile board nail screw
bolt wire rope chain wheel tire spoke car truck bus buses van bike bicycle motorcycle train plane airplane boat ship
ferry taxi trip flight ride round game match matches point goal run touchdown basket vote win draw step jump skip lap
mile song video movie episode show program class classes course grade team group club school room house home building
floor apartment bedroom door window wall fence gate seat chair table desk bench benches sofa bed lamp candle bulb
battery batteries phone computer laptop tablet camera machine printer robot tv television row column stack pile bunch
bunches batch batches piece part portion serving section item object thing product unit order sale call message post
chore task job shift project visit session event meeting party parties holiday night weekday weekend morning evening
afternoon season time turn way path route combination permutation arrangement possibility possibilities outcome
pattern choice option method solution integer element subset sequence triangle square rectangle circle cube polygon
pentagon hexagon side edge vertex vertices face diagonal angle corner dot segment region intersection handshake color
colour shape size kind type level star diamond heart spade club planet moon city cities town village country countries
state street road bridge tower park garden farm field lawn store shop restaurant hotel hospital library libraries
museum acorn feather bone tooth teeth leg arm eye ear hand finger toe head tail wing hair bar cone scoop stamp ribbon
string cloth fabric yarn quilt bale bushel bundle load trash trip mail gas gasoline oil fuel paint flour sugar salt
butter rice corn wheat oats hay grass soup bread cheese meat beef pork ham salad sauce cereal popcorn ice cream gum
snow rain sand wood gold silver money cash allowance pill tablet dose vaccine minnow goldfish guppy guppies cricket
flea fly flies widget gadget tool part component shelf shelves drawer locker key lock bell drum guitar piano note
instrument lightbulb trading baseball basketball football tennis soccer golf hockey
"""
_FILLERS = frozenset(
    [
        "a",
        "an",
        "the",
        "of",
        "each",
        "every",
        "total",
        "altogether",
        "together",
        "left",
        "remaining",
        "all",
        "old",
        "tall",
        "long",
        "wide",
        "high",
        "deep",
        "extra",
    ]
)
"""Words that leave a unit as it is: "18 dollars in total", "9 years old"."""


def _table() -> dict[str, str]:
    table: dict[str, str] = {}
    for group in f"{_MEASURES}|{_MONEY}".replace("\n", "|").split("|"):
        names = group.split()
        table.update((name, names[0]) for name in names)
    for word in _THINGS.split():
        table.setdefault(word, word)
    irregular = {
        "people": "person", "persons": "person", "children": "child", "kids": "child", "kid": "child", "men": "man",
        "women": "woman", "mice": "mouse", "geese": "goose", "feet": "foot", "teeth": "tooth", "pennies": "penny",
        "centuries": "century", "inches": "inch", "grandchildren": "grandchild", "vertices": "vertex", "fishes": "fish",
        "loaves": "loaf", "leaves": "leaf", "shelves": "shelf", "knives": "knife", "scarves": "scarf",
    }  # fmt: skip
    table.update(mph="mile per hour", mpg="mile per gallon", kmh="km per hour", kph="km per hour")
    table.update((plural, table.get(one, one)) for plural, one in irregular.items())
    return table


_TABLE = _table()
SYMBOLS = {r"\$": "dollar", "$": "dollar", "€": "euro", "£": "£", "¥": "yen", "₹": "rupee"}
CURRENCIES = frozenset(SYMBOLS.values())
_SAME = (
    frozenset({"pound", "£"}),
    frozenset({"yen", "yuan"}),
    frozenset({"cent", "penny"}),
    frozenset({"pence", "penny"}),
)
"""A pound is money or a weight, ¥ is yen or yuan."""
_TOKEN = re.compile(r"[A-Za-z]+|/")
_MAX_WORDS = 8


def canonical(words: str) -> str | None:
    """One name for all ways to write a unit: "Metres per sec." is "meter per second". "" when the words say nothing
    but "in total" or the like; None when one of them is not on the list."""
    found: list[str] = []
    tokens = _TOKEN.findall(words)
    if len(tokens) > _MAX_WORDS or _TOKEN.sub("", words).strip(" ."):
        return None
    power = ""
    for place, token in enumerate(tokens):
        low = token.lower()
        if low in ("per", "/"):
            found.append("per")
        elif low in ("square", "sq", "cubic", "cu") and place + 1 < len(tokens):
            power = "2" if low[0] == "s" else "3"
            continue
        elif low in ("squared", "cubed") and found:
            found[-1] += "2" if low == "squared" else "3"
        elif low == "in" and [t.lower() for t in tokens[place + 1 :]] in (["total"], ["all"]):
            break
        elif low in _FILLERS:
            continue
        elif (name := _one(token, low)) is not None:
            found.append(name + power)
        else:
            return None
        power = ""
    if power or (found[:1] == ["per"] and len(found) == 1):
        return None
    return " ".join(found)


def _one(token: str, low: str) -> str | None:
    """The unit that one word names. Capital letters alone are no units: M may be a million."""
    if len(token) == 1 and token.isupper():
        return {"L": "liter", "C": "celsius", "F": "fahrenheit"}.get(token)
    if low in _TABLE:
        return _TABLE[low]
    for end, instead in (("ies", "y"), ("es", ""), ("s", "")):
        if len(low) > 3 and low.endswith(end) and low[: -len(end)] + instead in _TABLE:
            return _TABLE[low[: -len(end)] + instead]
    return None


def agree(one: str, other: str) -> bool:
    """May two canonical units be the same? No unit agrees with every unit."""
    return not one or not other or one == other or any({one, other} <= same for same in _SAME)
