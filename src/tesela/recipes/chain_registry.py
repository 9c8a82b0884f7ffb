"""The chains that recipes can name, and their parts."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import Any

from tesela.core.errors import RecipeError, unknown_name


@dataclass(frozen=True)
class ChainParts:
    """Parts of a chain, each as "module:name" in `tesela.chains`; `load` imports them."""

    recipe: str
    """Model of its recipe: a subclass of `tesela.recipes.schema.Recipe`."""
    chain: str
    """Its stages: a `tesela.chains.run.Chain`, made with (recipe, folder, quiet=...)."""
    demo: str
    """Writer of its demo, called with (out, size=..., seed=..., report=...): writes data and recipe."""

    def load(self, part: str) -> Any:
        """Load the recipe, chain or demo."""
        module, name = str(getattr(self, part)).split(":")
        return getattr(import_module(f"tesela.chains.{module}"), name)


CHAINS = {
    "corine": ChainParts(
        "corine.recipe:CorineRecipe", "corine.chain:CorineChain", "corine.demo:write_corine_demo"
    ),
    "lulucf": ChainParts(
        "lulucf.recipe:LulucfRecipe", "lulucf.chain:LulucfChain", "lulucf.demo:write_lulucf_demo"
    ),
    "unmixing": ChainParts(
        "unmixing.recipe:UnmixingRecipe", "unmixing.chain:UnmixingChain", "unmixing.demo:write_unmixing_demo"
    ),
}


def find_chain(name: str) -> ChainParts:
    """
    Parts of a chain by name.

    Raises
    ------
    RecipeError
        If there is no such chain; lists the known ones.
    """
    if name not in CHAINS:
        raise RecipeError(unknown_name("chain", name, CHAINS))
    return CHAINS[name]
