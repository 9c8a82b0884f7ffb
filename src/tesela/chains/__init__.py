"""
The three chains: recipes as stages that are skipped when up to date and resumed when interrupted.

A new chain is a folder here and one line in `tesela.recipes.chain_registry`: `recipe` (a subclass of
`tesela.recipes.schema.Recipe`, made of `tesela.recipes.sections`; paths to read are `sections.InputFile`), `chain` (a
`run.Chain`: stages, products, summary, lines), `demo` (out, size, seed, report -> recipe file) and the commented
``template.toml`` of `tesela init`. `tesela run`, `tesela init` and `tesela demo` then offer it. A chain that maps
scenes is a `scenes.SceneChain` with a `scene_recipe.SceneRecipe`. For `tesela compare` a chain has three more methods:
see `metrics.Comparable`.
"""

from tesela.chains.run import Chain, Outcome, run_recipe

__all__ = ["Chain", "Outcome", "run_recipe"]
