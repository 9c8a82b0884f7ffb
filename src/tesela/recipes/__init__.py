"""Recipe files and the chains that they describe: stages that are skipped and resumed."""

from tesela.recipes.chains import Outcome, run_recipe
from tesela.recipes.schema import Recipe, check_recipe, load_recipe

__all__ = ["Outcome", "Recipe", "check_recipe", "load_recipe", "run_recipe"]
