"""The folders, their allowed imports and the flat names of the package hang together."""

import ast
import functools
import importlib
import re
import subprocess
import sys
import tomllib
from collections.abc import Collection, Iterator
from graphlib import TopologicalSorter
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

import tesela
from mutants import MUTANTS
from repository import ROOT, SOURCE

# The table "Layout and imports" of DESIGN.md. None: everything below; see `ABOVE`.
MAY_IMPORT: dict[str, set[str] | None] = {
    "core": set(),
    "legends": set(),
    "io": {"core", "legends"},
    "sources": {"core", "io"},
    "labels": {"core", "io", "sources"},
    "patches": {"core", "io"},
    "models": {"core"},
    "training": {"core", "patches", "models"},
    "mapping": {"core", "io", "models"},
    "generalise": {"core", "io"},
    "pages": {"core", "io"},
    "assessment": {"core", "io", "labels", "patches", "generalise", "pages"},
    "sampling": {"core", "io", "pages"},
    "accounting": {"core", "io", "pages", "sampling"},
    "publishing": {"core", "io", "models", "mapping"},
    "web": {"core", "io", "patches", "pages", "sampling"},
    "simulate": {"core", "io", "generalise"},
    "recipes": {"core", "io", "sources", "training"},
    "chains": None,
    "comparison": None,
    "article": None,
    "verbs": None,
}
ABOVE = {
    "chains": {"web", "comparison", "article", "verbs", "cli"},
    "comparison": {"web", "article", "verbs", "cli"},
    "article": {"web", "verbs", "cli"},
    "verbs": {"cli"},
}
"""What the folders that may import all below them may not import."""

HEAVY = {
    "torch",
    "rasterio",
    "geopandas",
    "pandas",
    "matplotlib",
    "numba",
    "numpy",
    "scipy",
    "lightning",
    "xarray",
}


def contracts() -> list[dict[str, object]]:
    tables = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    listed: list[dict[str, object]] = tables["tool"]["importlinter"]["contracts"]
    return listed


def modules() -> dict[str, Path]:
    """Files of the package by module name."""
    names = {
        path: ".".join(path.relative_to(SOURCE.parent).with_suffix("").parts) for path in SOURCE.rglob("*.py")
    }
    return {name.removesuffix(".__init__"): path for path, name in names.items()}


@functools.cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def imports_of(path: Path, known: Collection[str], *, inside_functions: bool) -> set[str]:
    """Modules of ours that a file imports, those for type checkers too."""

    def visit(node: ast.AST) -> Iterator[str]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Import):
                yield from (item.name for item in child.names)
            elif isinstance(child, ast.ImportFrom) and child.module:
                for item in child.names:
                    full = f"{child.module}.{item.name}"
                    yield full if full in known else child.module
            elif inside_functions or not isinstance(child, ast.FunctionDef):
                yield from visit(child)

    return {name for name in visit(tree_of(path)) if name in known}


def imported_for_type_checkers() -> dict[str, str]:
    tree = ast.parse((SOURCE / "__init__.py").read_text(encoding="utf-8"))
    block = next(node for node in tree.body if isinstance(node, ast.If))
    return {
        alias.asname or alias.name: node.module or ""
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }


def test_every_folder_has_a_row_in_the_table() -> None:
    folders = {path.parent.name for path in SOURCE.glob("*/__init__.py")}
    assert folders == {*MAY_IMPORT, "cli"}


def test_the_contracts_forbid_exactly_what_the_table_does_not_allow() -> None:
    folders = {*MAY_IMPORT, "cli"}
    forbidden = {
        str(contract["source_modules"]): {
            name.removeprefix("tesela.")
            for name in contract["forbidden_modules"]
            if name.startswith("tesela.")
        }
        for contract in contracts()
        if any(name.startswith("tesela.") for name in contract["forbidden_modules"])
    }
    expected = {
        str([f"tesela.{name}"]): folders
        - {name}
        - (allowed if allowed is not None else folders - ABOVE[name])
        for name, allowed in MAY_IMPORT.items()
    }
    assert forbidden == expected


def test_no_import_leaves_the_table_not_even_for_type_checkers_or_inside_functions() -> None:
    files = modules()
    for name, path in files.items():
        room = path.relative_to(SOURCE).parts[0]
        if room not in MAY_IMPORT:  # the command line, and the flat names
            continue
        allowed = MAY_IMPORT[room]
        for target in imports_of(path, files, inside_functions=True):
            other = target.split(".")[1] if "." in target else ""
            permitted = other not in ABOVE[room] if allowed is None else other in allowed
            assert permitted or other in (room, ""), f"{name} imports {target}"


def test_imports_have_no_back_edge_not_even_for_type_checkers() -> None:
    files = modules()
    graph = {
        name: imports_of(path, files, inside_functions=False) - {name}
        for name, path in files.items()
        if name != "tesela"  # whose imports for type checkers are the flat names
    }
    assert list(TopologicalSorter(graph).static_order()), "raises CycleError, which names the modules"


def test_no_module_imports_from_the_flat_names() -> None:
    for path in SOURCE.rglob("*.py"):
        for node in ast.walk(tree_of(path)):
            if isinstance(node, ast.ImportFrom) and node.module == "tesela":
                assert {alias.name for alias in node.names} <= {"__version__"}, path


@pytest.mark.parametrize("name", sorted(tesela._HOME))
def test_every_flat_name_is_found_in_its_home(name: str) -> None:
    assert getattr(tesela, name) is getattr(importlib.import_module(tesela._HOME[name]), name)


def test_type_checkers_see_the_same_flat_names() -> None:
    assert imported_for_type_checkers() == tesela._HOME


def test_flat_names_are_listed_in_order() -> None:
    assert list(tesela._HOME) == sorted(tesela._HOME)
    assert set(tesela._HOME) <= set(dir(tesela))


def test_an_unknown_flat_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'tesela' has no attribute 'open_scenes'"):
        _ = tesela.open_scenes


def test_the_version_is_that_of_the_project() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert tesela.__version__ == project["version"]


@pytest.mark.parametrize("module", ["tesela", "tesela.cli"])
def test_importing_the_package_or_its_command_line_loads_nothing_heavy(module: str) -> None:
    code = f"import sys, {module}; print(*sorted({{name.partition('.')[0] for name in sys.modules}}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not HEAVY & set(done.stdout.split())


def test_all_that_is_imported_is_declared() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    wanted = [
        *project["dependencies"],
        *extras["imagery"],
        *extras["plot"],
        *extras["train"],
        *extras["fast"],
        *extras["cluster"],
        *extras["postgis"],
        *extras["hdf4"],
        *extras["lidar"],
    ]
    declared = {re.split(r"[\[<>=]", item)[0].lower().replace("_", "-") for item in wanted}
    offered = packages_distributions()
    for path in SOURCE.rglob("*.py"):
        for node in ast.walk(tree_of(path)):
            names = [item.name for item in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) and not node.level else []
            for name in (
                {name.partition(".")[0] for name in names} - set(sys.stdlib_module_names) - {"tesela"}
            ):
                given = {item.lower().replace("_", "-") for item in offered.get(name, [name])}
                assert given & declared, f"{path} imports {name}, which pyproject.toml does not ask for"


def test_constraints_are_plain_pins() -> None:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    assert lines
    for line in lines:
        assert re.fullmatch(r"[a-z0-9-]+==[a-z0-9.]+", line), line


def test_each_planted_mistake_has_its_text() -> None:
    """`make mutants` replaces a text that stands there once."""
    lost = [
        f"{item.file}: {item.old}"
        for item in MUTANTS
        if (SOURCE / item.file).read_text(encoding="utf-8").count(item.old) != 1
    ]
    assert not lost
