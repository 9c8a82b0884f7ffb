"""Record of a run: which recipe made a folder of outputs, so that the folder alone opens the run again."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tesela.chains.scene_recipe import SceneRecipe
from tesela.core.errors import RecipeError, TeselaError
from tesela.io.manifest import write_text
from tesela.recipes.overrides import override_keys
from tesela.recipes.schema import Recipe, check_recipe, read_document

NAME = "run.json"
"""Name of the record, in the folder of the outputs."""

_DEEPEST = 4
"""Folders above the outputs in which a recipe is looked for."""


@dataclass(frozen=True)
class RecordedRun:
    """Recipe of a run that was found again."""

    recipe: Recipe
    folder: Path
    """Folder of the recipe, to which its paths are relative."""
    file: str
    """Name of the recipe's file, for messages."""

    @property
    def out(self) -> Path:
        """Folder of the outputs."""
        return self.folder / self.recipe.out


def write_record(path: str | Path, recipe: Recipe, *, changes: Sequence[str]) -> Path | None:
    """
    Record in the folder of the outputs which recipe made them; None where a run has written nothing yet.

    Parameters
    ----------
    path : path
        The recipe's file.
    changes : sequence of str
        Keys with other values than in the file.
    """
    file = Path(path).resolve()
    out = (file.parent / recipe.out).resolve()
    if not out.is_dir():
        return None
    content = override_keys(read_document(file), changes)
    if isinstance(recipe, SceneRecipe):  # patterns and tables of scenes as they were
        content["scenes"] = [section.model_dump(exclude_unset=True) for section in recipe.scenes]
    document = {
        "recipe": content,
        "folder": Path(os.path.relpath(file.parent, out)).as_posix(),
        "file": file.name,
    }
    return write_text(out / NAME, json.dumps(document, indent=1, default=str) + "\n")


def find_run(path: str | Path) -> RecordedRun:
    """
    The run of a folder of outputs, by its record or by the recipe in a folder above it; or of a recipe's file.

    Inputs of the recipe that are gone since are no mistake: what the run wrote is enough for its figures.

    Raises
    ------
    RecipeError
        If no recipe of the folder is found.
    """
    given = Path(path)
    if given.is_file():
        document, file = read_document(given), given.resolve()
        return _recorded(document, file.parent, file.name, where=str(path))
    record = given / NAME
    if record.is_file():
        try:
            content = json.loads(record.read_text(encoding="utf-8"))
            document, folder, name = content["recipe"], content["folder"], str(content["file"])
            folder = (given.resolve() / str(folder)).resolve()
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise RecipeError(
                f"{record}: cannot be read ({error}). Run the recipe again (tesela run RECIPE), which writes it anew; "
                f"finished stages are kept."
            ) from None
        return _recorded(document, folder, name, where=str(record))
    for candidate in _recipes_above(given):
        return candidate
    raise RecipeError(
        f"{path}: no run of a recipe is found here: neither {NAME}, which `tesela run` writes, nor a recipe whose "
        f"'out' is this folder. Name the recipe's output folder, or the recipe."
    )


def _recorded(document: dict[str, Any], folder: Path, name: str, *, where: str) -> RecordedRun:
    try:
        recipe = check_recipe(document, where=where, folder=folder)
    except RecipeError:
        recipe = check_recipe(document, where=where)
    return RecordedRun(recipe, folder, name)


def _recipes_above(out: Path) -> Iterator[RecordedRun]:
    """Recipes whose outputs are in this folder."""
    whole = out.resolve()
    for folder in (whole, *whole.parents)[: _DEEPEST + 1]:
        for file in sorted(folder.glob("*.toml")):
            try:
                found = _recorded(read_document(file), folder, file.name, where=str(file))
            except (TeselaError, OSError):
                continue
            if found.out.resolve() == whole:
                yield found
