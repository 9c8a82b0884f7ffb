"""Executes a notebook in a folder: `python notebook_run.py NOTEBOOK FOLDER`; with its outputs it lies there then."""

import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient


def run_notebook(path: Path, folder: Path) -> Path:
    """Execute a notebook in a kernel of its own; any error of a cell is an error here."""
    notebook = nbformat.read(path, as_version=4)
    resources = {"metadata": {"path": str(folder)}}
    NotebookClient(notebook, kernel_name="python3", timeout=600, resources=resources).execute()
    executed = folder / path.name
    nbformat.write(notebook, executed)
    return executed


if __name__ == "__main__":
    run_notebook(Path(sys.argv[1]), Path(sys.argv[2]))
