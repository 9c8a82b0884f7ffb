"""
Draw docs/images/demo.png from the report of a demo.

    tesela demo --out tesela-demo && .venv/bin/python docs/images/make_demo.py tesela-demo
"""

import sys
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

SIDE, GAP, TITLE = 300, 10, 26
TITLES = {
    "image": "Image, July",
    "map": "Map",
    "reference": "Reference",
    "difference": "Difference, test patches",
}

report = Path(sys.argv[1]) / "report"
sheet = Image.new("RGB", (4 * SIDE + 3 * GAP, SIDE + TITLE), "white")
pen = ImageDraw.Draw(sheet)
for number, (name, title) in enumerate(TITLES.items()):
    x = number * (SIDE + GAP)
    picture = (
        Image.open(report / f"{name}.png").convert("RGBA").resize((SIDE, SIDE), Image.Resampling.LANCZOS)
    )
    sheet.paste(picture, (x, TITLE), picture)
    pen.text((x, 4), title, fill="#222222", font=ImageFont.load_default(16))
sheet.quantize(256).save(Path(__file__).with_name("demo.png"), optimize=True)
