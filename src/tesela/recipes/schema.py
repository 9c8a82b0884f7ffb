"""The recipe file: what every recipe holds, and how mistakes in it are reported."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

from pydantic import Field, ValidationError

from tesela.core.errors import RecipeError
from tesela.io.toml_file import read_toml
from tesela.recipes.booleans import booleans_for_numbers
from tesela.recipes.chain_registry import CHAINS, find_chain
from tesela.recipes.overrides import override_keys
from tesela.recipes.sections import FileName, Section

RENAMED = {
    "scenes.nonfinite": "scenes.invalid",
    "measures": "imbalance",
    "assessment.ground": "assessment.area",
    "training.balance": "training.imbalance_strategy",
    "training.turns": "training.flips_and_rotations",
    "training.dirichlet": "training.head",
    "training.mixture": "training.endmember_decoder",
    "training.upper": "training.parent_weight",
}
"""Former keys and their present names, for the message."""


class Recipe(Section):
    """What the recipes of all chains hold; each chain's own model adds its sections."""

    chain: str
    """Name of the chain; see `tesela.recipes.chain_registry`."""
    name: FileName
    """Short name, used for files and tables."""
    out: str
    """Folder of all outputs, relative to the recipe."""
    seed: int = Field(0, ge=0, lt=2**31)


def open_recipe(path: str | Path, *, changes: Sequence[str] = ()) -> tuple[Recipe, Path]:
    """
    Read and check a recipe. Paths in it are relative to its folder.

    Parameters
    ----------
    changes : sequence of str
        Keys with other values than in the file, see `tesela.recipes.overrides.override_keys`.

    Returns
    -------
    Recipe, Path
        The recipe, of the model of its chain, and its folder.

    Raises
    ------
    RecipeError
        Lists all mistakes at once, each unknown key with the nearest known one.
    """
    file = Path(path)
    document = override_keys(read_document(file), changes)
    return check_recipe(document, where=str(path), folder=file.resolve().parent), file.resolve().parent


def read_document(path: Path) -> dict[str, Any]:
    """
    Read a recipe file without checking its keys.

    Raises
    ------
    RecipeError
        If there is no such file, or it is not TOML.
    """
    try:
        return read_toml(path)
    except FileNotFoundError:
        raise RecipeError(f"{path}: no such file. Write one with `tesela init corine -o {path}`.") from None
    except IsADirectoryError:
        raise RecipeError(f"{path}: is a folder; name the recipe in it (.toml).") from None


def check_recipe(document: dict[str, Any], *, where: str, folder: Path | None = None) -> Recipe:
    """
    Check the document of a recipe with the model of the chain that it names.

    Parameters
    ----------
    where : str
        Name of the file, for the message.
    folder : Path, optional
        Folder of the recipe. Where it is given, a missing file is a mistake, too.

    Raises
    ------
    RecipeError
        See `open_recipe`.
    """
    model = _model(document.get("chain"), where)
    flags = dict(booleans_for_numbers(document, model))
    mistakes = [f"{key} = {str(flag).lower()}: give a number" for key, flag in flags.items()]
    recipe: Recipe | None = None
    try:
        recipe = model.model_validate(document, context={"folder": folder})
    except ValidationError as error:
        problems = [dict(item) for item in error.errors() if ".".join(map(str, item["loc"])) not in flags]
        mistakes = list(dict.fromkeys([*mistakes, *(_explain(item, model) for item in problems)]))
    if recipe is None or mistakes:
        count = "1 mistake" if len(mistakes) == 1 else f"{len(mistakes)} mistakes"
        raise RecipeError(f"{where} has {count}: {'; '.join(mistakes)}.") from None
    return recipe


def _model(chain: object, where: str) -> type[Recipe]:
    if chain is None:
        raise RecipeError(f"{where} has 1 mistake: chain is missing (known: {', '.join(CHAINS)}).")
    if not isinstance(chain, str) or chain not in CHAINS:
        near = difflib.get_close_matches(str(chain), CHAINS, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]}? " if near else ""
        raise RecipeError(f"{where} has 1 mistake: chain = {chain!r} ({hint}known: {', '.join(CHAINS)}).")
    model: type[Recipe] = find_chain(chain).load("recipe")
    return model


def _explain(problem: dict[str, Any], model: type[Recipe]) -> str:
    location = [str(part) for part in problem["loc"]]
    key = ".".join(location)
    plain = ".".join(part for part in problem["loc"] if isinstance(part, str))
    message = str(problem["msg"]).removeprefix("Value error, ").rstrip(".")
    kind = str(problem["type"])
    if kind in ("extra_forbidden", "unexpected_keyword_argument"):
        if plain in RENAMED:
            return f"{key} is now called {RENAMED[plain]}"
        known = _known_keys(problem["loc"][:-1], model)
        near = difflib.get_close_matches(location[-1], known, n=1, cutoff=0.5)
        return f"unknown key {key}" + (
            f" (did you mean {near[0]}?)" if near else f" (known: {', '.join(known)})"
        )
    if kind == "missing":
        return f"{key} is missing"
    if kind == "value_error":
        return f"{key}: {message}" if key else message
    return f"{key} = {problem.get('input')!r}: {message[0].lower()}{message[1:]}"


def _known_keys(location: Sequence[Any], model: type[Recipe]) -> list[str]:
    """Names of the keys of the section at a location."""
    section: Any = model
    for part in location:
        if isinstance(part, int):
            continue
        fields = getattr(section, "model_fields", None)
        if fields is None or part not in fields:
            return []
        annotation = fields[part].annotation
        inner = [kind for kind in get_args(annotation) if isinstance(kind, type)]
        section = inner[0] if inner and not hasattr(annotation, "model_fields") else annotation
    names = getattr(section, "model_fields", None) or getattr(section, "__dataclass_fields__", {})
    return list(names)
