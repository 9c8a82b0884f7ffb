"""Items of a stage: scenes done one by one, so that a killed run repeats one and a longer list only new ones."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from tesela.io.addresses import relative_name
from tesela.io.fingerprints import fingerprint
from tesela.io.manifest import Manifest

FOLDER = ".items"
"""Folder in that of a stage with the manifest of each item."""


def do_item(
    folder: Path,
    name: str,
    *,
    settings: Mapping[str, object],
    inputs: Sequence[str | Path],
    work: Callable[[], Sequence[Path]],
) -> list[Path]:
    """
    Do one item of a stage, or nothing where its manifest describes the same work and its files are unchanged.

    Parameters
    ----------
    folder : Path
        Folder of the stage.
    name : str
        Name of the item, unique in the stage.
    settings, inputs
        All that its outputs depend on.
    work : callable
        Does the item and returns the files that it wrote.

    Returns
    -------
    list of Path
        The files of the item.
    """
    home, file = folder / FOLDER, f"{name}.json"
    wanted = Manifest(name, settings=settings, inputs=_fingerprints(inputs, folder))
    done = Manifest.read(home, file)
    if done is not None and done.same_work(wanted) and _unchanged(done, folder):
        return [folder / path for path in done.outputs]
    outputs = list(work())
    home.mkdir(parents=True, exist_ok=True)
    Manifest(name, settings=settings, inputs=wanted.inputs, outputs=_fingerprints(outputs, folder)).write(
        home, file
    )
    return outputs


def forget_items(folder: Path) -> None:
    """Do all items of a stage again; their files stay until then."""
    shutil.rmtree(folder / FOLDER, ignore_errors=True)


def keep_items(folder: Path, names: Sequence[str]) -> None:
    """Forget the items of a stage that are in its list no more."""
    for file in (folder / FOLDER).glob("*.json"):
        if file.stem not in names:
            file.unlink(missing_ok=True)


def _fingerprints(paths: Sequence[str | Path], folder: Path) -> dict[str, str]:
    return {relative_name(path, folder): fingerprint(path) for path in paths}


def _unchanged(done: Manifest, folder: Path) -> bool:
    files = {folder / path: text for path, text in done.outputs.items()}
    return all(path.exists() and fingerprint(path) == text for path, text in files.items())
