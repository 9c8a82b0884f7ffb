"""
The patch table: windows of scenes with their labels, splits and shares; `dataset` reads them for torch.

Nothing is imported here: `import tesela` loads this package before the function of the same name, see there.
"""
