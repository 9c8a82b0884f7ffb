"""What every command checks before it runs: that its numbers are numbers, and that no output replaces an input."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from typer.core import TyperCommand

OUTPUTS: Mapping[str, Sequence[str]] = {
    "predict": ("out", "confidence", "entropy", "probabilities", "adapted"),
    "unmix": ("out", "classes", "uncertainty", "prior", "imputed", "endmembers"),
    "generalise": ("out", "narrow", "change_log"),
    "update apply": ("out", "changes"),
}
"""Parameters that name outputs, by command; of all others it is `out` alone."""

IN_PLACE: Mapping[str, Sequence[str]] = {
    "review rank": ("table",),
    "review export": ("table",),
    "patches": ("scenes",),
}
"""Parameters of tables that a command may replace by themselves: a patch table is split again, or gets columns."""

NEGATIVE = frozenset({"offset", "nodata"})
"""Options that may be negative."""

NOT_A_NUMBER = frozenset({"nodata"})
"""Options that may be NaN."""

_RECIPES = frozenset({"run", "train", "compare"})
_SIDES = frozenset({"window", "size", "tiles"})
_LARGEST_SIDE_PX = 16_384
"""A window, patch or tile with longer sides takes gigabytes for each layer of a network."""


class CheckedCommand(TyperCommand):
    """A command that checks its parameters before it runs, and protects its inputs while it does."""

    def invoke(self, ctx: Any) -> Any:
        """Check the parameters, then run."""
        name = " ".join(ctx.command_path.split()[1:])
        check_numbers(ctx.params)
        with ExitStack() as stack:
            inputs = list(input_files(name, ctx.params))
            outputs = output_paths(name, ctx.params)
            if inputs or outputs:
                from tesela.io.outputs import check_outputs, protected

                kept = (
                    set(_texts(ctx.params, IN_PLACE.get(name, ()))) if not ctx.params.get("labels") else set()
                )
                check_outputs([path for path in outputs if path not in kept], inputs=inputs)
                stack.enter_context(protected(path for path in inputs if str(path) not in kept))
            return super().invoke(ctx)


def check_numbers(params: Mapping[str, object]) -> None:
    """
    Check the numeric options of a command.

    Raises
    ------
    RecipeError
        If one is not finite, negative where that means nothing, or so large that it fills the memory.
    """
    for name, value in params.items():
        if isinstance(value, bool) or not isinstance(value, int | float):
            continue
        option = f"--{name.replace('_', '-')}"
        if not math.isfinite(value) and not (name in NOT_A_NUMBER and math.isnan(value)):
            _refuse(f"{option} is {value}: a finite number was needed.")
        if value < 0 and name not in NEGATIVE:
            _refuse(f"{option} is {value:g}: a number from 0 on was needed.")
        if name in _SIDES and value > _LARGEST_SIDE_PX:
            _refuse(f"{option} is {value} px: sides up to {_LARGEST_SIDE_PX} px fit into memory.")


def output_paths(command: str, params: Mapping[str, object]) -> list[str]:
    """Paths that a call names for outputs; tables of a database are none."""
    named = _texts(params, OUTPUTS.get(command, ("out",)))
    return [path for path in named if "://" not in path]


def input_files(command: str, params: Mapping[str, object]) -> Iterator[str | Path]:
    """
    Files and folders that a call names, apart from its outputs: each text, and each part of a list or a pair.

    A recipe counts with the files that it names, and a cascade with its experts.
    """
    names = [name for name in params if name not in OUTPUTS.get(command, ("out",))]
    for text in _texts(params, names):
        parts = {text, *text.split(","), text.partition("=")[2], re.sub(r"\.csv-[1-9]$", ".csv", text)}
        for part in sorted(filter(None, parts)):
            if not _exists(part):
                continue
            yield part
            path = Path(part)
            if path.suffix == ".toml" or (path / "cascade.toml").is_file():
                yield from _named_in(path / "cascade.toml" if path.is_dir() else path, command)


def _named_in(document: Path, command: str) -> Iterator[Path]:
    """Files that a TOML names, relative to its folder; those of a recipe must not be folders of its outputs."""
    from tesela.core.errors import RecipeError  # here and below: the package loads numpy
    from tesela.io.toml_file import read_toml

    yield document
    try:
        content = read_toml(document)
    except (OSError, RecipeError):
        return  # reported where it is read
    content.pop("out", None)
    for text in _leaves(content):
        path = document.parent / re.sub(r"\.csv-[1-9]$", ".csv", text)
        if _exists(str(path)) and (command not in _RECIPES or path.is_file()):
            yield path


def _leaves(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _leaves(item)
    elif isinstance(value, list):
        for item in value:
            yield from _leaves(item)


def _texts(params: Mapping[str, object], names: Sequence[str]) -> list[str]:
    texts: list[str] = []
    for name in names:
        value = params.get(name)
        texts += [value] if isinstance(value, str) else list(value) if isinstance(value, list | tuple) else []
    return [text for text in texts if text]


def _exists(text: str) -> bool:
    from tesela.io.vector.address import local_file

    try:
        return local_file(text).exists()
    except (OSError, ValueError):  # a text that is no path
        return False


def _refuse(text: str) -> None:
    from tesela.core.errors import RecipeError

    raise RecipeError(text)
