"""
Recipe files and the chains that they describe: stages that are skipped and resumed.

A new chain is four files here and one line in the table of `tesela.recipes.known`: the model of its recipe (a
subclass of `schema.Recipe`, made of `sections`; paths to read are `sections.InputFile`), a class that is a
`chains.Chain` (stages, products, summary, lines), a demo writer (out, size, seed, report -> recipe file) and the
commented recipe ``<chain>.toml`` of `tesela init`. Loading, checking, running, skipping, `tesela init` and `tesela
demo` then know it. For `tesela compare` the chain has three methods more: see `metrics.Comparable`.
"""

from tesela.recipes.chains import Chain, Outcome, run_recipe
from tesela.recipes.schema import Recipe, check_recipe, load_recipe

__all__ = ["Chain", "Outcome", "Recipe", "check_recipe", "load_recipe", "run_recipe"]
