"""MODIS: composites, quality bits, months, and the cube made of them."""
