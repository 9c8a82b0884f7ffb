"""
The verbs: one function for each command, flat in `import tesela` under the command's name.

The words of a command are joined by underscores: ``tesela sample draw`` is `tesela.sample_draw`. A verb takes what
users hold (paths, arrays of xarray, GeoDataFrames, maps), calls the room that does the work, and returns what it made;
without an output path the answer lies in temporary files that go with it. The command line calls the same functions.
"""
