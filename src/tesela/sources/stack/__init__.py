"""Stacks: rasters, NetCDF and Zarr with dates, of any sensor, to one cube."""
