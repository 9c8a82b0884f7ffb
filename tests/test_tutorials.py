"""The tutorials of the documents run as they are written."""

from pathlib import Path

import pytest

from repository import ROOT
from tutorial_page import blocks_of, check_printed, run_page

pytestmark = pytest.mark.documents

TUTORIALS = ROOT / "docs" / "tutorials"


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # for a reader, too, a warning is no error
@pytest.mark.parametrize(("name", "by_shell"), [("corine", 1), ("lulucf", 0), ("unmixing", 0)])
def test_a_tutorial_runs_as_it_is_written(name: str, by_shell: int, tmp_path: Path) -> None:
    page = TUTORIALS / f"{name}.md"
    assert sum(block.kind in ("sh", "python") for block in blocks_of(page)) >= 4
    run_page(page, tmp_path, by_shell=by_shell)


def test_a_page_that_shows_what_is_not_printed_fails() -> None:
    elsewhere = Path("/elsewhere", "x", "work", "a.tif").as_posix()
    check_printed("polygons  12\n...\nmap  work/a.tif", f"polygons 7\nnote: b\nmap   {elsewhere}")
    with pytest.raises(AssertionError, match="'areas  12' is not printed"):
        check_printed("areas  12", "polygons  12")
    with pytest.raises(AssertionError, match="is not printed"):
        check_printed("b 1\na 1", "a 1\nb 1")


PAGE = """
```toml title="a.toml"
chain = "corine"
```
```python
print("made 12 of a")
```
```text
made 7 of a
```
```sh
tesela legend list \\
    --help     # all of them
ls
```
```text
Usage: tesela legend list [OPTIONS]
...
a.toml
```
"""


def test_commands_of_a_page_run_in_its_folder_and_one_that_fails_is_an_error(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(PAGE, encoding="utf-8")
    run_page(page, tmp_path / "folder")
    assert Path.cwd() != tmp_path / "folder"
    page.write_text(PAGE.replace("--help", "--hepl"), encoding="utf-8")
    with pytest.raises(AssertionError, match="No such option"):
        run_page(page, tmp_path / "folder")
