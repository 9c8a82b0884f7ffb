"""The recipe file: its schema, its sections, its stages."""

from tesela.recipes.schema import Recipe, check_recipe, open_recipe

__all__ = ["Recipe", "check_recipe", "open_recipe"]
