"""Files for other installers: they hold the versions and dependencies of pyproject.toml."""

import re
import tomllib

import yaml

from repository import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
CONDA_NAMES = {"matplotlib": "matplotlib-base", "xxhash": "python-xxhash"}


def test_the_conda_recipe_has_the_dependencies_and_version_of_the_project() -> None:
    recipe = yaml.safe_load((ROOT / "packaging" / "conda" / "recipe.yaml").read_text(encoding="utf-8"))
    wanted = {f"python {PROJECT['requires-python']}"}
    for item in PROJECT["dependencies"]:
        match = re.fullmatch(r"([A-Za-z0-9-]+)(>=.*)", item)
        assert match is not None, item
        wanted.add(f"{CONDA_NAMES.get(match[1], match[1])} {match[2]}")
    assert set(recipe["requirements"]["run"]) == wanted
    assert recipe["context"]["version"] == PROJECT["version"]


def test_the_citation_has_the_version_and_licence_of_the_project() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == PROJECT["version"]
    assert citation["license"] == PROJECT["license"]
    assert {"cff-version", "message", "title", "authors"} <= set(citation)


def test_continuous_integration_covers_all_systems_and_versions() -> None:
    text = (ROOT / ".github" / "workflows" / "tests.yml").read_text(encoding="utf-8")
    matrix = yaml.safe_load(text)["jobs"]["systems"]["strategy"]["matrix"]
    assert {name.split("-")[0] for name in matrix["os"]} == {"ubuntu", "macos", "windows"}
    assert matrix["python"] == ["3.11", "3.12", "3.13"]
    for name in ("bug.yml", "idea.yml"):
        form = yaml.safe_load((ROOT / ".github" / "ISSUE_TEMPLATE" / name).read_text(encoding="utf-8"))
        assert {"name", "description", "body"} <= set(form)


def test_containers_install_what_the_project_names() -> None:
    extras = set(PROJECT["optional-dependencies"])
    definition = (ROOT / "packaging" / "tesela.def").read_text(encoding="utf-8")
    match = re.search(r"/src\[([a-z,]+)\]", definition)
    assert match is not None
    assert set(match[1].split(",")) <= extras
    for name in ("Dockerfile", "tesela.def"):
        text = (ROOT / "packaging" / name).read_text(encoding="utf-8")
        for copied in ("pyproject.toml", "README.md", "LICENSE", "constraints.txt", "src"):
            assert copied in text, name
