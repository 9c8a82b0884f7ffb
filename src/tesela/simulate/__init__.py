"""The virtual region: landscapes whose truth is known."""
