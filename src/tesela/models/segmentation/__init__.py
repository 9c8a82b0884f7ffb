"""Networks for class maps: one file each, and a dictionary that names them."""
