"""TOML files as editors save them."""

from pathlib import Path

import pytest

from tesela.core.errors import RecipeError
from tesela.io.toml_file import read_toml
from tesela.recipes.schema import read_document

TEXT = 'name = "España"\n[training]\nepochs = 2\n'


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
@pytest.mark.parametrize("ending", ["\n", "\r\n"])
def test_one_document_is_read_however_it_was_saved(tmp_path: Path, encoding: str, ending: str) -> None:
    path = tmp_path / "a.toml"
    path.write_bytes(TEXT.replace("\n", ending).encode(encoding))
    assert read_document(path) == {"name": "España", "training": {"epochs": 2}}


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"a = 1\n[b\n", "not a TOML file .*line 2"),
        (b'path = "C:\\data\\scene.tif"\n', "Write paths with /, or in single quotes"),
        (b'path = "C:\\Users\\scene.tif"\n', "Write paths with /, or in single quotes"),
        (bytes(range(256)), "not a TOML file .it is not text"),
    ],
)
def test_what_is_not_toml_is_told_in_one_line(tmp_path: Path, data: bytes, message: str) -> None:
    (tmp_path / "a.toml").write_bytes(data)
    with pytest.raises(RecipeError, match=message):
        read_toml(tmp_path / "a.toml")


def test_a_folder_is_no_recipe(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="is a folder; name the recipe in it"):
        read_document(tmp_path)
