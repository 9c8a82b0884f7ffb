"""The virtual sheet: crowns, orthophoto and SIOSE AR."""
