"""The recipe: one YAML per run, its sections named after the stages.

Unknown keys are errors that name the nearest right key. Nothing here imports torch: a recipe is checked
before anything heavy.
"""

from negrl.labeling.section import LabelSection
from negrl.methods.section import TrainSection
from negrl.policy.section import BuildSection, PolicySection
from negrl.recipe.problems import (
    ChainProblems,
    Gsm8kProblems,
    JsonlProblems,
    LedgerProblems,
    Problems,
    StargraphProblems,
    TracesSection,
    WorldProblems,
)
from negrl.recipe.read import first_error, load_recipe
from negrl.recipe.schema import EngineSection, EvaluateSection, Recipe, SampleSection
from negrl.verify.section import VerifySection

__all__ = [
    "BuildSection",
    "ChainProblems",
    "EngineSection",
    "EvaluateSection",
    "Gsm8kProblems",
    "JsonlProblems",
    "LabelSection",
    "LedgerProblems",
    "PolicySection",
    "Problems",
    "Recipe",
    "SampleSection",
    "StargraphProblems",
    "TracesSection",
    "TrainSection",
    "VerifySection",
    "WorldProblems",
    "first_error",
    "load_recipe",
]
