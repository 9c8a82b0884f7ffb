"""The architecture: the few settings from which a network is built again, without running stored code."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Protocol, Self

from tesela.core.errors import ExpertError, unknown_name

if TYPE_CHECKING:
    from torch import nn

MOST_CHANNELS = 2048
"""Largest number of bands and of channels that a file may ask for: it must not fill the memory."""

MOST_CLASSES = 254
"""Largest number of classes: a class raster has no more values."""


class Architecture(Protocol):
    """What every family of networks describes: its size, its name, how to build it and how to write it down."""

    @property
    def bands(self) -> int:
        """Number of input bands."""

    @property
    def classes(self) -> int:
        """Number of classes."""

    @property
    def kind(self) -> str:
        """Name of the family in an expert's header."""

    @property
    def summary(self) -> str:
        """A few words for people."""

    def build(self) -> nn.Module:
        """Make the network, with random weights."""

    def to_dict(self) -> dict[str, object]:
        """Document from which `from_dict` builds the same value."""

    @classmethod
    def from_dict(cls, document: Mapping[str, object]) -> Self:
        """Build from `to_dict`'s document, checking every field."""


# -- fields of a document from an unknown source, checked before anything is built from them ----------


def whole_number(document: Mapping[str, object], name: str, *, most: int, least: int = 1) -> int:
    """
    Whole number of a document.

    Raises
    ------
    ExpertError
        If it is missing, no whole number, or out of range.
    """
    value = document.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise ExpertError(
            f"architecture: {name} is {value!r}, a whole number from {least} to {most} was needed."
        )
    return value


def choice(document: Mapping[str, object], name: str, options: Sequence[str]) -> str:
    """
    Text of a document that must be one of a few.

    Raises
    ------
    ExpertError
        If it is missing or another.
    """
    value = document.get(name)
    if not isinstance(value, str) or value not in options:
        raise ExpertError(f"architecture: {unknown_name(name, str(value), options)}")
    return value


def flag(document: Mapping[str, object], name: str) -> bool:
    """
    True or False of a document.

    Raises
    ------
    ExpertError
        If it is missing or something else.
    """
    value = document.get(name)
    if not isinstance(value, bool):
        raise ExpertError(f"architecture: {name} is {value!r}, true or false was needed.")
    return value


def number_list(document: Mapping[str, object], name: str, *, most: int, least: int = 0) -> tuple[int, ...]:
    """
    List of whole numbers of a document.

    Raises
    ------
    ExpertError
        If it is no list, or a number is out of range.
    """
    value = document.get(name)
    if not isinstance(value, list):
        raise ExpertError(f"architecture: {name} is {value!r}, a list was needed.")
    return tuple(whole_number({name: item}, name, most=most, least=least) for item in value)
