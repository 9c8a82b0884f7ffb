"""From a scene and an expert to a map."""
