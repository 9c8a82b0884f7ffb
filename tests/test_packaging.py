"""Files for other installers: they hold the versions and dependencies of pyproject.toml."""

import os
import re
import tomllib

import pytest
import yaml
from typer.main import get_group

from repository import ROOT
from tesela.cli.app import app

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
CONDA_NAMES = {
    "huggingface-hub": "huggingface_hub",
    "matplotlib": "matplotlib-base",
    "torch": "pytorch",
    "xxhash": "python-xxhash",
}


def in_conda(items: list[str]) -> set[str]:
    """Requirements of pyproject.toml as a conda recipe writes them; extras of Tesela's own are left out."""
    found = set()
    for item in items:
        match = re.fullmatch(r"([A-Za-z0-9-]+)(>=.*)", item)
        assert match is not None or item.startswith("tesela["), item
        if match is not None:
            found.add(f"{CONDA_NAMES.get(match[1], match[1])} {match[2]}")
    return found


def test_the_conda_recipe_has_the_dependencies_and_version_of_the_project() -> None:
    recipe = yaml.safe_load((ROOT / "packaging" / "conda" / "recipe.yaml").read_text(encoding="utf-8"))
    wanted = in_conda(PROJECT["dependencies"]) | {f"python {PROJECT['requires-python']}"}
    assert set(recipe["requirements"]["run"]) == wanted
    extras = PROJECT["optional-dependencies"]
    optional = {item for name in ("imagery", "plot", "train") for item in in_conda(extras[name])}
    assert set(recipe["requirements"]["run_constraints"]) == optional
    assert recipe["context"]["version"] == PROJECT["version"]


def test_the_citation_has_the_version_and_licence_of_the_project() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == PROJECT["version"]
    assert citation["license"] == PROJECT["license"]
    assert {"cff-version", "message", "title", "authors"} <= set(citation)


def test_continuous_integration_covers_all_systems_and_versions() -> None:
    text = (ROOT / ".github" / "workflows" / "tests.yml").read_text(encoding="utf-8")
    jobs = yaml.safe_load(text)["jobs"]
    matrix = jobs["systems"]["strategy"]["matrix"]
    assert {name.split("-")[0] for name in matrix["os"]} == {"ubuntu", "macos", "windows"}
    assert matrix["python"] == ["3.11", "3.12", "3.13"]
    assert set(re.findall(r"\.\[([a-z,]+)\]", text)) <= set(PROJECT["optional-dependencies"])
    steps = [step["run"].split() for job in jobs.values() for step in job["steps"] if "run" in step]
    commands = {words[1] for words in steps if words[0] == "tesela"}
    assert commands
    assert commands <= set(get_group(app).commands)
    for words in steps:
        if words[0].startswith("."):
            assert os.access(ROOT / words[0], os.X_OK)
    targets = re.findall(r"^make (\w+)$", (ROOT / ".ci" / "run").read_text(encoding="utf-8"), re.MULTILINE)
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert targets
    assert all(f"\n{target}:" in makefile for target in targets)
    for name in ("bug.yml", "idea.yml"):
        form = yaml.safe_load((ROOT / ".github" / "ISSUE_TEMPLATE" / name).read_text(encoding="utf-8"))
        assert {"name", "description", "body"} <= set(form)


@pytest.mark.parametrize("name", ["Dockerfile", "tesela.def"])
def test_containers_install_what_the_project_names(name: str) -> None:
    text = (ROOT / "packaging" / name).read_text(encoding="utf-8")
    used = re.findall(r"/src\[([a-z,]+)\]|EXTRAS=([a-z,]+)", text)
    assert used
    for extras in used:
        assert set("".join(extras).split(",")) <= set(PROJECT["optional-dependencies"])
    for copied in ("pyproject.toml", "README.md", "LICENSE", "constraints.txt", "src"):
        assert copied in text
        assert (ROOT / copied).exists()
    python = re.search(r"python:(3\.\d+)-slim", text)
    assert python is not None
    assert python[1] in {"3.11", "3.12", "3.13"}
