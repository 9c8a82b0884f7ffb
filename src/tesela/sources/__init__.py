"""Sources: which imagery and references exist and how to get them."""
