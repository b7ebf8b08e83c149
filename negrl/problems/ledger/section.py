"""The settings of the `ledger` world."""

from __future__ import annotations

from typing import Literal, get_args

from pydantic import Field, model_validator

from negrl.problems.base import TeacherFilter, WorldProblems
from negrl.problems.ledger.line import WORDINGS

Relation = Literal[
    "more", "fewer", "times", "half", "more_first", "fewer_first", "gain", "lose", "both", "most", "least"
]
Question = Literal["ask", "together", "difference", "sale"]
LedgerHabit = Literal["distractor", "more_less", "before_after", "carry", "sub_question"]


class LedgerProblems(WorldProblems):
    steps: tuple[int, int] = (2, 4)
    """Fewest and most lines of working; 12 at most."""
    numbers: int = Field(50, ge=5, le=99_999)
    """The largest number in a story."""
    largest: int = Field(500, ge=10, le=99_999_999)
    """The largest result of a right step."""
    distractors: tuple[int, int] = (0, 2)
    """Fewest and most sentences that don't matter."""
    people: int = Field(20, ge=4, le=64)
    things: int = Field(12, ge=2, le=32)
    """How many names and things there are to choose from; the seed decides which."""
    phrasings: int = Field(3, ge=1, le=3)
    """Ways to say the same."""
    wordings: int = Field(1, ge=1, le=WORDINGS, exclude_if=lambda wordings: wordings == 1)
    """Ways to write a line of a solution, drawn for each line."""
    relations: list[Relation] = Field(default_factory=lambda: list(get_args(Relation)))
    """How one amount follows from another. Drawn evenly: one that is listed twice comes twice as often."""
    rates: float = Field(0.2, ge=0, le=1)
    """Chance that the first amount is a number per day, for a number of days."""
    questions: list[Question] = Field(default_factory=lambda: list(get_args(Question)))
    habits: list[LedgerHabit] = Field(default_factory=lambda: list(get_args(LedgerHabit)))
    habit_rate: float = Field(0.3, ge=0, le=1)
    """Chance that a step of the pre-training text follows a habit, where one applies."""
    teacher_habit_rate: float = Field(0.2, ge=0, le=1)
    """The same for the teacher."""
    teacher_filter: TeacherFilter = "answer"
    """Which of the teacher's solutions are kept: those with the right answer, those with right steps only, or all."""

    @model_validator(mode="after")
    def _possible(self) -> LedgerProblems:
        for name, least, most in (("steps", 1, 12), ("distractors", 0, 12)):
            low, high = getattr(self, name)
            if not least <= low <= high <= most:
                raise ValueError(
                    f"{name}: expected two numbers from {least} to {most}, the second no smaller, not [{low}, {high}]"
                )
        if self.people < self.steps[1] + self.distractors[1] + 1:
            needed = self.steps[1] + self.distractors[1] + 1
            raise ValueError(f"people: {self.people} are too few for such stories: at least {needed}")
        if not set(self.relations) - {"both", "most", "least", "more_first", "fewer_first"}:
            raise ValueError("relations: expected one of more, fewer, times, half, gain, lose among them")
        if not self.questions:
            raise ValueError(f"questions: expected some of {', '.join(get_args(Question))}")
        return self
