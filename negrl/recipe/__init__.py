"""The recipe: one YAML per run, its sections named after the stages.

Unknown keys are errors that name the nearest right key. Nothing here imports torch: a recipe is checked
before anything heavy.
"""

from negrl.labeling.section import LabelSection
from negrl.methods.section import TrainSection
from negrl.options import first_error
from negrl.policy.section import BuildSection, PolicySection
from negrl.recipe.read import load_recipe
from negrl.recipe.schema import EvaluateSection, Recipe
from negrl.verify.section import VerifySection

__all__ = [
    "BuildSection",
    "EvaluateSection",
    "LabelSection",
    "PolicySection",
    "Recipe",
    "TrainSection",
    "VerifySection",
    "first_error",
    "load_recipe",
]
