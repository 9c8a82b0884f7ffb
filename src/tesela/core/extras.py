"""The extras of an installation: which library belongs to which, and what to install where one is missing."""

from __future__ import annotations

from importlib.util import find_spec

from tesela.core.errors import InputError

EXTRA_OF = {
    "torch": "train",
    "lightning": "train",
    "timm": "train",
    "segmentation_models_pytorch": "train",
    "huggingface_hub": "train",
    "tensorboard": "train",
    "sklearn": "train",
    "scipy": "imagery",
    "zarr": "imagery",
    "matplotlib": "plot",
}
"""Extra of each library that the base does without; `train` holds `imagery` and `plot`."""


def missing_line(library: str) -> str | None:
    """
    What to do where a library is missing; None if no extra brings it.

    Examples
    --------
    >>> missing_line("matplotlib.figure")
    "This needs matplotlib, which is not installed: pip install 'tesela[plot]'."
    """
    top = library.partition(".")[0]
    extra = EXTRA_OF.get(top)
    return (
        None if extra is None else f"This needs {top}, which is not installed: pip install 'tesela[{extra}]'."
    )


def need(library: str) -> None:
    """
    Check that a library of an extra is there, before work begins that would need it later.

    Raises
    ------
    InputError
        If it is missing; the text names its extra.
    """
    if find_spec(library) is None:
        raise InputError(missing_line(library) or f"This needs {library}, which is not installed.")
