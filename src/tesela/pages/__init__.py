"""What all HTML pages and figures share: environment, base template, number format, curves, scene pictures."""
