"""
The accessor `.tesela` of arrays of classes: legend, palette, areas and a drawing.

``import tesela.xr`` registers it, as ``import odc.geo.xr`` does theirs. `ClassMap.to_xarray` does the same, and
``import tesela`` does where xarray is already loaded; ``import tesela`` alone loads no xarray.
"""

from tesela.io.accessor import TeselaAccessor

__all__ = ["TeselaAccessor"]
