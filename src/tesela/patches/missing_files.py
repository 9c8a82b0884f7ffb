"""Files of a patch table that are not where it says."""

from __future__ import annotations

from pathlib import Path

from tesela.core.errors import InputError
from tesela.io.addresses import is_address
from tesela.patches.table import PatchTable


def check_files(table: PatchTable, path: str | Path) -> None:
    """
    Check that the images and label maps of a patch table are there.

    Parameters
    ----------
    path : path
        File of the table, for the message.

    Raises
    ------
    InputError
        If a local file is missing; how the table finds it again is said.
    """
    images = {scene.name: [band.path for band in scene.bands] for scene in table.scenes.values()}
    for name, files in images.items():
        for file in dict.fromkeys([*files, table.labels[name]]):
            if not is_address(file) and not Path(file).exists():
                raise InputError(
                    f"{path}: its scene '{name}' is to be in {file}, which is not there. The table knows the way to "
                    f"its files from its own folder: move table, images and labels together, or make it again "
                    f"(tesela patches)."
                )
