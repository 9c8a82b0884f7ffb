"""The tutorials of the documents run as they are written."""

from pathlib import Path

import pytest

from repository import ROOT
from tutorial_page import blocks_of, check_printed, run_page

pytestmark = pytest.mark.documents

TUTORIALS = ROOT / "docs" / "tutorials"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["corine", "lulucf", "unmixing"])
def test_a_tutorial_runs_as_it_is_written(name: str, tmp_path: Path) -> None:
    page = TUTORIALS / f"{name}.md"
    assert sum(block.kind in ("sh", "python") for block in blocks_of(page)) >= 4
    run_page(page, tmp_path)


def test_a_page_that_shows_what_is_not_printed_fails() -> None:
    elsewhere = Path("/elsewhere", "x", "work", "a.tif").as_posix()
    check_printed("polygons  12\n...\nmap  work/a.tif", f"polygons 7\nnote: b\nmap   {elsewhere}")
    with pytest.raises(AssertionError, match="'areas  12' is not printed"):
        check_printed("areas  12", "polygons  12")
    with pytest.raises(AssertionError, match="is not printed"):
        check_printed("b 1\na 1", "a 1\nb 1")
