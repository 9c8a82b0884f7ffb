"""
Measure what an install takes: its bytes with and without bytecode, and its largest packages.

Run `.venv/bin/python benchmarks/install_size.py`, with `--extra train` (or another) for more than the base. The package
is installed into a temporary environment with pip in it, as `python -m venv` and `pip install .` leave it. A minute and
1 GB of the disk for the base.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]


def sizes(folder: Path) -> tuple[int, int]:
    """Bytes of the files of a folder: all, and those of bytecode."""
    files = [path for path in folder.rglob("*") if path.is_file() and not path.is_symlink()]
    return (
        sum(path.stat().st_size for path in files),
        sum(path.stat().st_size for path in files if path.suffix == ".pyc"),
    )


def main() -> None:
    """Install, and print the sizes as JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--extra", action="append", default=[], help="an extra; repeat it for more")
    extras = ",".join(parser.parse_args().extra)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        uv = [str(Path(sys.executable).with_name("uv"))]
        subprocess.run([*uv, "venv", "--quiet", "--seed", "--python", sys.executable, name], check=True)
        what = f"{REPOSITORY}[{extras}]" if extras else str(REPOSITORY)
        install = [*uv, "pip", "install", "--quiet", "--python", name, "--link-mode", "copy"]
        subprocess.run([*install, "--compile-bytecode", what], check=True)
        packages = next(iter([*folder.glob("lib/python*/site-packages"), *folder.glob("Lib/site-packages")]))
        largest = {entry.name: round(sizes(entry)[0] / 1e6) for entry in packages.iterdir() if entry.is_dir()}
        everything, bytecode = sizes(folder)
        print(
            json.dumps(
                {
                    "extras": extras,
                    "megabytes": round(everything / 1e6),
                    "without_bytecode": round((everything - bytecode) / 1e6),
                    "largest": dict(sorted(largest.items(), key=lambda item: -item[1])[:15]),
                },
                indent=1,
            )
        )


if __name__ == "__main__":
    main()
