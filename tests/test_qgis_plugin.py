"""The QGIS plugin as files: its description, its imports, the options it uses, and its runs of the program."""

import ast
import configparser
import importlib.util
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
from typer.main import get_command

import tesela
from repository import ROOT
from tesela.cli.app import app

FOLDER = ROOT / "integrations" / "qgis"
PLUGIN = FOLDER / "tesela_qgis"
FILES = sorted(PLUGIN.rglob("*.py"))
OLDEST_PYTHON = (3, 9)


def load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def program() -> ModuleType:
    return load(PLUGIN / "program.py")


# --- files ---


def test_the_description_is_complete_and_names_the_version() -> None:
    described = configparser.ConfigParser()
    described.read(PLUGIN / "metadata.txt", encoding="utf-8")
    general = described["general"]
    needed = ("name", "qgisMinimumVersion", "description", "about", "version", "author", "email")
    assert all(general.get(name) for name in needed)
    assert general["version"] == tesela.__version__
    assert general["hasProcessingProvider"] == "yes"
    assert (PLUGIN / general["icon"]).exists()


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(PLUGIN).as_posix())
def test_a_file_is_python_of_the_oldest_qgis_and_imports_nothing_of_tesela(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"), feature_version=OLDEST_PYTHON)
    for node in ast.walk(tree):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [item.name for item in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or "tesela_qgis"]
        for name in names:
            first = name.partition(".")[0]
            assert first in {"qgis", "processing", "tesela_qgis"} or first in sys.stdlib_module_names, name


def algorithms() -> Iterator[tuple[str, tuple[str, ...], set[str]]]:
    """Class, words of the command and options of each algorithm."""
    for path in sorted((PLUGIN / "algorithms").glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.ClassDef):
                continue
            texts = {
                item.value
                for item in ast.walk(node)
                if isinstance(item, ast.Constant) and isinstance(item.value, str)
            }
            for part in node.body:
                names = [getattr(item, "id", "") for item in getattr(part, "targets", [])]
                if isinstance(part, ast.Assign) and names == ["COMMAND"]:
                    options = {text for text in texts if text.startswith("--")}
                    yield node.name, ast.literal_eval(part.value), options


@pytest.mark.parametrize(
    ("name", "words", "options"), list(algorithms()), ids=lambda item: item if isinstance(item, str) else ""
)
def test_an_algorithm_calls_a_command_with_options_that_it_has(
    name: str, words: tuple[str, ...], options: set[str]
) -> None:
    command = get_command(app)
    for word in words:
        command = command.commands[word]  # type: ignore[attr-defined]
    known = {option for parameter in command.params for option in parameter.opts}
    assert "--out" in options or name == "RunRecipe"
    assert options <= known


def test_the_zip_holds_the_folder_that_qgis_unpacks(tmp_path: Path) -> None:
    packed = load(FOLDER / "make_zip.py").make_zip(tmp_path / "plugin.zip")
    names = zipfile.ZipFile(packed).namelist()
    assert {"tesela_qgis/metadata.txt", "tesela_qgis/__init__.py", "tesela_qgis/LICENSE"} <= set(names)
    assert all(name.startswith("tesela_qgis/") and "__pycache__" not in name for name in names)


# --- the program ---


@pytest.mark.skipif(sys.platform == "win32", reason="programs end in .exe there")
def test_the_program_is_found_by_setting_path_and_environment(
    program: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scripts = tmp_path / "bin"
    scripts.mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "nowhere"))
    for name in ("VIRTUAL_ENV", "CONDA_PREFIX"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(program.ProgramError, match="was not found on the search path"):
        program.find_program()
    with pytest.raises(program.ProgramError, match="there is no Tesela"):
        program.find_program(str(tmp_path))
    python = scripts / "python"
    python.write_text("")
    assert program.find_program(str(python)) == [str(python), "-m", "tesela"]
    assert program.find_program(str(tmp_path)) == [str(python), "-m", "tesela"]
    monkeypatch.setenv("CONDA_PREFIX", str(tmp_path))
    assert program.find_program() == [str(python), "-m", "tesela"]
    script = scripts / "tesela"
    script.write_text("")
    script.chmod(0o755)
    assert program.find_program(str(tmp_path)) == [str(script)]
    monkeypatch.setenv("PATH", str(scripts))
    assert program.find_program() == [str(script)]


def test_the_program_gets_no_variables_of_qgis_own_libraries(program: ModuleType) -> None:
    given = {
        "PATH": "/bin",
        "PYTHONHOME": "/qgis",
        "GDAL_DATA": "/qgis",
        "PROJ_LIB": "/qgis",
        "HOME": "/home",
    }
    own = program.own_environment(given)
    assert own["PATH"] == "/bin"
    assert own["HOME"] == "/home"
    assert own["TESELA_PROGRESS"] == "json"
    assert not {"PYTHONHOME", "GDAL_DATA", "PROJ_LIB"} & set(own)


class Heard:
    """Keeps what a run says; ends it at a stage, if one is named."""

    def __init__(self, cancel_at: str = "") -> None:
        self.said: list[tuple[object, ...]] = []
        self.ended = False
        self._cancel_at = cancel_at

    def progress(self, *given: object) -> None:
        self.said.append(("progress", *given))

    def stage(self, name: str, text: str) -> None:
        self.said.append(("stage", name, text))
        self.ended = self.ended or name == self._cancel_at

    def note(self, text: str) -> None:
        self.said.append(("note", text))

    def line(self, text: str) -> None:
        self.said.append(("line", text))


def run(program: ModuleType, heard: Heard, *words: str) -> str:
    """Run and return what the program printed."""
    printed: str = program.run_program(
        [sys.executable, *words], listener=heard, cancelled=lambda: heard.ended
    )
    return printed


def test_the_error_of_a_run_is_its_one_line(program: ModuleType, tmp_path: Path) -> None:
    missing = tmp_path / "missing.toml"
    with pytest.raises(program.ProgramError, match=r"missing\.toml") as raised:
        run(program, Heard(), "-m", "tesela", "run", str(missing))
    assert "\n" not in str(raised.value)
    assert not str(raised.value).startswith("tesela:")
    with pytest.raises(program.ProgramError, match="No such command 'rn'"):
        run(program, Heard(), "-m", "tesela", "rn")
    with pytest.raises(program.ProgramError, match="cannot be started"):
        program.run_program([str(missing)], listener=Heard(), cancelled=lambda: False)


def test_events_notes_and_lines_of_a_run_are_told_apart(program: ModuleType) -> None:
    script = """if True:
        import sys
        from tesela.core.progress import ProgressLine, progress_event
        progress_event(stage="map", text="")
        line = ProgressLine("mapping", quiet=True)
        line.start(total=4)
        line.move(4)
        line.stop()
        print("note: look", "{no event", sep=chr(10), file=sys.stderr)
        print("map  ä.tif")
    """
    heard = Heard()
    assert run(program, heard, "-c", script) == "map  ä.tif"
    assert heard.said[0] == ("stage", "map", "")
    assert ("progress", "mapping", 0, 4, "") in heard.said
    assert ("progress", "mapping", 4, 4, "") in heard.said
    assert ("note", "look") in heard.said
    assert ("note", "{no event") in heard.said


def test_a_cancelled_run_ends_at_once(program: ModuleType) -> None:
    script = """if True:
        import time
        from tesela.core.progress import progress_event
        progress_event(stage="train", text="")
        time.sleep(600)
    """
    with pytest.raises(program.Cancelled, match="Run the same again to continue"):
        run(program, Heard(cancel_at="train"), "-c", script)
