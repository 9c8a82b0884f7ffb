"""
Draw docs/images/demo.png from the report of a demo.

    tesela demo --out tesela-demo && .venv/bin/python docs/images/make_demo.py tesela-demo
"""

import sys
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

SIDE, GAP, TITLE = 420, 12, 26
TITLES = {
    "image": "Image, July",
    "map": "Map",
    "reference": "Reference",
    "difference": "Difference, test patches",
}

report = Path(sys.argv[1]) / "report"
sheet = Image.new("RGB", (2 * SIDE + GAP, 2 * (SIDE + TITLE) + GAP), "white")
pen = ImageDraw.Draw(sheet)
for number, (name, title) in enumerate(TITLES.items()):
    x, y = number % 2 * (SIDE + GAP), number // 2 * (SIDE + TITLE + GAP)
    picture = (
        Image.open(report / f"{name}.png").convert("RGBA").resize((SIDE, SIDE), Image.Resampling.LANCZOS)
    )
    sheet.paste(picture, (x, y + TITLE), picture)
    pen.text((x, y + 4), title, fill="#222222", font=ImageFont.load_default(16))
sheet.quantize(256).save(Path(__file__).with_name("demo.png"), optimize=True)
