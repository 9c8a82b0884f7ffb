"""The recipe file: its schema, its sections, its stages."""

from tesela.recipes.schema import Recipe, check_recipe, load_recipe

__all__ = ["Recipe", "check_recipe", "load_recipe"]
