"""Packs the plugin as QGIS installs it from a ZIP: `python integrations/qgis/make_zip.py [FILE]`."""

from __future__ import annotations

import sys
import zipfile
from pathlib import Path

PLUGIN = Path(__file__).resolve().with_name("tesela_qgis")
_DATE = (2018, 1, 1, 0, 0, 0)


def make_zip(out: Path) -> Path:
    """Write the plugin's folder into a zip; the same files give the same bytes."""
    out.parent.mkdir(parents=True, exist_ok=True)
    root = PLUGIN.parents[2]
    files = [path for path in sorted(PLUGIN.rglob("*")) if path.is_file() and "__pycache__" not in path.parts]
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as packed:
        for path in (*files, root / "LICENSE"):
            name = path.relative_to(PLUGIN.parent) if path in files else Path(PLUGIN.name, path.name)
            packed.writestr(zipfile.ZipInfo(name.as_posix(), _DATE), path.read_bytes(), zipfile.ZIP_DEFLATED)
    return out


if __name__ == "__main__":
    default = PLUGIN.parents[2] / "dist" / "tesela_qgis.zip"
    print(make_zip(Path(sys.argv[1]) if len(sys.argv) > 1 else default))  # noqa: T201
