"""The accessor `.tesela` of arrays of classes: legend, palette, areas and a drawing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from tesela.core.legend import Legend
from tesela.io.array_views import required_legend
from tesela.io.arrays import array_grid

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

    from tesela.io.maps import ClassMap

_DRAWN_PX = 2000


@xr.register_dataarray_accessor("tesela")  # type: ignore[no-untyped-call]
class TeselaAccessor:
    """
    What an array of classes shows of its legend; for arrays of `ClassMap.to_xarray`, and what xarray makes of them.

    Examples
    --------
    >>> array = tesela.open_map("map.tif").to_xarray()                      # doctest: +SKIP
    >>> array.isel(x=slice(0, 500)).tesela.areas                            # doctest: +SKIP
    """

    def __init__(self, data: xr.DataArray) -> None:
        self._data = data

    @property
    def legend(self) -> Legend:
        """
        Legend of the classes.

        Raises
        ------
        LegendError
            If the array does not name it.
        """
        return required_legend(self._data)

    @property
    def palette(self) -> dict[int, str]:
        """Colours as ``#rrggbb`` by value."""
        return {item.value: item.color for item in self.legend.classes}

    @property
    def areas(self) -> pd.DataFrame:
        """Pixels, hectares and share of each class that occurs; arrays of Dask are counted by blocks."""
        from tesela.io.map_views import area_table
        from tesela.io.pixel_areas import pixel_area_m2

        counts = np.zeros(256, np.int64)
        for block in _blocks(self._data):
            counts += np.bincount(np.nan_to_num(block).astype(np.uint8).ravel(), minlength=256)
        return area_table(counts, self.legend, pixel_m2=pixel_area_m2(array_grid(self._data)))

    def plot(self, *, ax: Axes | None = None) -> Axes:
        """Draw the classes in their colours with matplotlib; large arrays at every n-th pixel."""
        from tesela.io.map_views import draw_classes

        step = max(1, -(-max(self._data.shape) // _DRAWN_PX))
        values = np.nan_to_num(self._data[..., ::step, ::step].values).astype(np.uint8)
        box = array_grid(self._data).boundingbox
        extent = (box.left, box.right, box.bottom, box.top)
        return draw_classes(values.reshape(values.shape[-2:]), self.legend, extent=extent, ax=ax)

    def to_map(self) -> ClassMap:
        """The array as a map, in a temporary file; `ClassMap.save` copies it to a path."""
        from tesela.io.maps import open_map

        return open_map(self._data)


def _blocks(data: xr.DataArray) -> Iterator[NDArray[np.generic]]:
    """Values, block by block where the array is one of Dask."""
    if data.chunks is None:
        yield data.values
        return
    for block in data.data.blocks.ravel():
        yield block.compute()
