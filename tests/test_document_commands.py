"""The commands that the documents show exist, with the options that they show."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

import tesela
from repository import ROOT
from tesela.cli.app import app

pytestmark = pytest.mark.documents

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
FENCE = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def commands_of(page: Path) -> Iterator[str]:
    """Lines of fenced blocks that call tesela, continued lines as one."""
    for kind, block in FENCE.findall(page.read_text(encoding="utf-8")):
        if kind not in ("", "sh"):
            continue
        for line in block.replace("\\\n", " ").splitlines():
            if line.startswith("tesela ") and "..." not in line:
                yield line


ALL: Any = get_command(app)


def wrong_in(line: str) -> str | None:
    """What a command line asks for that does not exist; `tesela update A B` is short for `tesela update queue A B`."""
    words = shlex.split(line, comments=True)[1:]
    command = ALL
    while hasattr(command, "commands") and words and not words[0].startswith("-"):
        if words[0] in command.commands:
            command = command.commands[words.pop(0)]
        elif command.name == "update":
            command = command.commands["queue"]
        else:
            return f"no command {words[0]!r}"
    known = {name for given in command.params for name in (*given.opts, *given.secondary_opts)}
    asked = {word.split("=")[0] for word in words if re.match(r"--?[a-z]", word)}
    unknown = asked - known - {"--help", "-h"}
    return f"no option {', '.join(sorted(unknown))}" if unknown else None


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_of_a_page_exist_with_their_options(page: Path) -> None:
    wrong = {line: found for line in commands_of(page) if (found := wrong_in(line))}
    assert not wrong


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_functions_of_a_page_exist(page: Path) -> None:
    called = set(re.findall(r"(?<![\w./])tesela\.([a-z]\w*)(?=\()", page.read_text(encoding="utf-8")))
    assert {name for name in called if not hasattr(tesela, name)} == set()


def test_a_command_that_does_not_exist_is_noticed() -> None:
    assert wrong_in("tesela mapp scene.tif") == "no command 'mapp'"
    assert wrong_in("tesela generalise map.tif --mnu 3 -o b.tif") == "no option --mnu"
    assert wrong_in("tesela update a.gpkg map.tif --field CODE -o b.gpkg") is None
    assert wrong_in("tesela sample draw map.tif -o b.gpkg --points 3   # --no") is None
