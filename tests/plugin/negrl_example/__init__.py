"""One of each thing that can be added to negrl. `plugins: [negrl_example]` in a recipe finds what is imported here."""

from negrl_example.benchmark import BENCHMARK
from negrl_example.engine import ENGINE
from negrl_example.labeler import LABELER
from negrl_example.method import METHOD
from negrl_example.problems import SOURCE
from negrl_example.splitter import SPLITTER

__all__ = ["BENCHMARK", "ENGINE", "LABELER", "METHOD", "SOURCE", "SPLITTER"]
