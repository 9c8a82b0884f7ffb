"""
From a scene and an expert to a map: windows, engines and the pipeline between them; cascades of experts.

The modules load torch where they need it, the package does not.
"""
