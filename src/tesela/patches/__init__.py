"""The patch table: windows of scenes with their labels, splits and shares."""
