"""The interpreted sample: points by stratum, map class and reference class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tesela.core.errors import InputError, LegendError, join_words, unknown_name


@dataclass(frozen=True, eq=False, repr=False)
class Sample:
    """
    Error matrices of a stratified random sample: points by map class and reference class in each stratum.

    Strata may differ from the classes of the map: one sample can assess any number of maps.

    Examples
    --------
    >>> sample = Sample.from_matrix([[97, 3], [2, 98]], sizes_px=[1000, 9000], classes=["change", "stable"])
    >>> sample
    <Sample: 200 points in 2 strata, 2 classes>
    """

    classes: tuple[str, ...]
    """Codes of map and reference, in the legend's order."""
    strata: tuple[str, ...]
    sizes_px: NDArray[np.float64]
    """(H,): pixels of each stratum; any other unit of area works without a finite population correction."""
    counts: NDArray[np.int64]
    """(H, K, K): points by stratum, class of the map, class of the reference."""
    pixel_area_ha: float = 1.0
    """Hectares of one unit of `sizes_px`."""
    missing_responses: int = 0
    """Points without a response; they are left out as if they had not been drawn."""
    seed: int | None = None
    """Seed of the sample, if known."""

    def __post_init__(self) -> None:
        counts = np.array(self.counts, np.int64)
        sizes = np.array(self.sizes_px, np.float64)
        shape = (len(self.strata), len(self.classes), len(self.classes))
        if counts.shape != shape or sizes.shape != shape[:1]:
            raise InputError(
                f"A sample of {shape[0]} strata and {shape[1]} classes needs counts of the shape {shape} and "
                f"sizes of {shape[:1]}; they have {counts.shape} and {sizes.shape}."
            )
        drawn = counts.sum(axis=(1, 2))
        if not drawn.any():
            raise InputError(
                "The sample has no responses: fill in its field `reference` first "
                "(tesela review serve SAMPLE --image SCENE)."
            )
        few = [
            f"{code} ({n} of {size:.0f} px)"
            for code, n, size in zip(self.strata, drawn, sizes, strict=True)
            if n < min(2, size)
        ]
        if few:
            raise InputError(
                f"Stratum {join_words(few, most=5)} has too few points with a response: each stratum needs two to "
                f"have a variance. Interpret more points there, or join small strata by a crosswalk."
            )
        for name, array in (("counts", counts), ("sizes_px", sizes)):
            array.setflags(write=False)
            object.__setattr__(self, name, array)

    def __repr__(self) -> str:
        return f"<Sample: {self.points} points in {len(self.strata)} strata, {len(self.classes)} classes>"

    @property
    def points(self) -> int:
        """Points with a response."""
        return int(self.counts.sum())

    @property
    def area_ha(self) -> float:
        """Area that the sample represents."""
        return float(self.sizes_px.sum()) * self.pixel_area_ha

    @property
    def strata_are_classes(self) -> bool:
        """Whether every stratum is one class of the map, as in Olofsson et al. (2014)."""
        mapped = self.counts.sum(axis=2) > 0
        return bool((mapped.sum(axis=1) <= 1).all() and (mapped.sum(axis=0) <= 1).all())

    @property
    def matrix(self) -> NDArray[np.int64]:
        """(K, K): points of all strata by map class (row) and reference class (column)."""
        return np.asarray(self.counts.sum(axis=0))

    @classmethod
    def from_matrix(
        cls, matrix: ArrayLike, *, sizes_px: ArrayLike, classes: Sequence[str], pixel_area_ha: float = 1.0
    ) -> Sample:
        """
        Sample whose strata are the map's classes, from its error matrix.

        Parameters
        ----------
        matrix : (K, K) array of int
            Row: class of the map. Column: class of the reference, as in Olofsson et al. (2014).
        sizes_px : (K,) array
            Mapped pixels of each class.
        """
        rows = np.asarray(matrix, np.int64)
        counts = np.zeros((len(rows), *rows.shape), np.int64)
        counts[np.arange(len(rows)), np.arange(len(rows))] = rows
        names = tuple(str(code) for code in classes)
        return cls(names, names, np.asarray(sizes_px, np.float64), counts, pixel_area_ha=pixel_area_ha)

    @classmethod
    def from_points(
        cls,
        strata: Sequence[str],
        mapped: Sequence[str],
        reference: Sequence[str],
        *,
        sizes_px: Mapping[str, float],
        classes: Sequence[str],
        pixel_area_ha: float = 1.0,
        seed: int | None = None,
    ) -> Sample:
        """
        Sample from one row per point; points whose `reference` is empty count as missing responses.

        Parameters
        ----------
        strata, mapped, reference : sequences of str, of one length
            Codes of the stratum, the map class and the reference class.
        sizes_px : mapping
            Pixels of every stratum, including strata without points.

        Raises
        ------
        LegendError
            If a code is not among `classes`.
        InputError
            If a stratum is unknown, or has too few responses.
        """
        codes, names = tuple(classes), tuple(sizes_px)
        interpreted = [index for index, code in enumerate(reference) if code]
        unknown = sorted(
            {code for side in (mapped, reference) for i in interpreted if (code := side[i]) not in codes}
        )
        if unknown:
            raise LegendError(
                f"The sample holds {join_words(repr(code) for code in unknown)}; "
                f"{unknown_name('class', unknown[0], codes)} Correct the field, or give a crosswalk."
            )
        lost = sorted({strata[i] for i in interpreted} - set(names))
        if lost:
            raise InputError(
                f"The sample names stratum {join_words(lost)}; its strata are {join_words(names)}."
            )
        counts = np.zeros((len(names), len(codes), len(codes)), np.int64)
        class_at = {code: position for position, code in enumerate(codes)}
        stratum_at = {code: position for position, code in enumerate(names)}
        for i in interpreted:
            counts[stratum_at[strata[i]], class_at[mapped[i]], class_at[reference[i]]] += 1
        return cls(
            codes,
            names,
            np.array([sizes_px[name] for name in names], np.float64),
            counts,
            pixel_area_ha=pixel_area_ha,
            missing_responses=len(reference) - len(interpreted),
            seed=seed,
        )
