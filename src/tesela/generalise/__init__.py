"""
Generalisation of a map to a standard: mosaic classes, minimum width, minimum mapping unit.

Nothing is imported here: `import tesela` loads this package before the function of the same name, see there.
"""
