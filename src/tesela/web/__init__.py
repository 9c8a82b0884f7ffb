"""Web: the local pages, review and view."""
