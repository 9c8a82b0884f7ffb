"""
Draw docs/images/notebook.png: cells of the example notebook with what they show.

    PYTHONPATH=tests .venv/bin/python tests/notebook_run.py examples/first_map.ipynb FOLDER
    .venv/bin/python docs/images/make_notebook.py FOLDER/first_map.ipynb
"""

import html
import json
import sys
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

HERE = Path(__file__).parent
SHOWN = ("expert.predict", ".assess(", "plt.subplots")
STYLE = """
body { margin: 12px; width: 860px; font: 13px sans-serif; background: #fff; }
pre { background: #f4f4f4; border-left: 3px solid #00796b; padding: 8px; margin: 0 0 8px; }
.out { margin: 0 0 16px 12px; } .out img { max-width: 820px; } table { border-collapse: collapse; font-size: 12px; }
td, th { padding: 2px 8px; text-align: right; }
"""

parts = []
for cell in json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))["cells"]:
    code = "".join(cell["source"])
    if cell["cell_type"] != "code" or not any(name in code for name in SHOWN):
        continue
    parts.append(f"<pre>{html.escape(code)}</pre>")
    for output in cell["outputs"]:
        data = output.get("data", {})
        if "text/html" in data:
            parts.append(f"<div class=out>{''.join(data['text/html'])}</div>")
        elif "image/png" in data:
            parts.append(
                f'<div class=out><img src="data:image/png;base64,{data["image/png"].strip()}"></div>'
            )

path = HERE / "notebook.png"
with sync_playwright() as play:
    browser = play.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
    page = browser.new_page(viewport={"width": 884, "height": 600})
    page.set_content(f"<style>{STYLE}</style>{''.join(parts)}")
    page.screenshot(path=str(path), full_page=True)
    browser.close()
Image.open(path).convert("RGB").quantize(256).save(path, optimize=True)
