"""The documents as a site: built without a warning, whole, and without a word to the network."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import tesela
from repository import ROOT

pytestmark = pytest.mark.documents

LOADED = re.compile(
    r"<(?:script|link|img|iframe|source|video|audio)\b[^>]*\b(?:src|href)=\"?(https?:)?//", re.IGNORECASE
)
LINK = re.compile(r"\]\((?!https?:|mailto:|#)([^)#\s]+)(?:#[^)\s]*)?\)")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("mkdocs")
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--quiet", "--strict", "--site-dir", folder],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"`make docs` warns:\n{done.stdout}"
    return folder


@pytest.mark.slow
def test_the_site_loads_nothing_and_holds_names_formulas_and_references(site: Path) -> None:
    """One test, so that the site is built by one worker alone."""
    check_that_no_page_loads_anything_from_the_network(site)
    check_that_every_public_name_stands_in_the_reference(site)
    check_that_formulas_are_drawn_without_a_script(site)
    check_that_keys_of_papers_lead_to_the_references(site)


def check_that_no_page_loads_anything_from_the_network(site: Path) -> None:
    pages = sorted(site.rglob("*.html"))
    assert len(pages) > 40
    for page in pages:
        found = LOADED.search(page.read_text(encoding="utf-8"))
        assert found is None, f"{page.relative_to(site)}: {found and found[0]}"


def check_that_every_public_name_stands_in_the_reference(site: Path) -> None:
    page = (site / "api.html").read_text(encoding="utf-8")
    headings = set(re.findall(r'<h3 id="[\w.]*?(\w+)"', page))
    assert set(tesela.__all__) - headings == {"__version__"}


def check_that_formulas_are_drawn_without_a_script(site: Path) -> None:
    page = (site / "accuracy.html").read_text(encoding="utf-8")
    assert page.count("<math") >= 3
    assert "arithmatex" not in page


def check_that_keys_of_papers_lead_to_the_references(site: Path) -> None:
    listed = set(re.findall(r'<li id="([^"]+)"', (site / "references.html").read_text(encoding="utf-8")))
    asked = re.findall(
        r'href="references.html#([^"]+)"', (site / "accuracy.html").read_text(encoding="utf-8")
    )
    assert {"Stehman2014", "Olofsson2014"} <= set(asked) <= listed


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"])
def test_links_between_files_lead_somewhere(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    assert [link for link in LINK.findall(text) if not (ROOT / link).exists()] == []
