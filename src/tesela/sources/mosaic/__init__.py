"""Cloud-free mosaics: tiles, compositing, and the job that writes them."""
