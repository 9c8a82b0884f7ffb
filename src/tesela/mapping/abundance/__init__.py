"""From a cube and an expert to an abundance map."""
