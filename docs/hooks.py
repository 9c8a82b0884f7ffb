"""
What the site needs beyond its pages: formulas as MathML, the pages of the API, and pages that lie outside `docs/`.

MkDocs calls these functions by their names, see `hooks` of mkdocs.yml.
"""

from __future__ import annotations

import ast
import html
import os
import re
from pathlib import Path
from typing import Any

from latex2mathml.converter import convert
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parent.parent
OUTSIDE = {
    "changelog.md": "CHANGELOG.md",
    "contributing.md": "CONTRIBUTING.md",
    "sources.md": "src/tesela/legends/SOURCES.md",
}
"""Pages of the site by the file of the repository that they show."""


def on_files(files: Files, config: Any) -> Files:
    """Add the page of the API, the pages that lie elsewhere, and the notebooks."""
    files.append(File.generated(config, "api.md", content=api_page()))
    for page, source in OUTSIDE.items():
        files.append(File.generated(config, page, abs_src_path=str(ROOT / source)))
    for notebook in sorted((ROOT / "examples").glob("*.ipynb")):
        files.append(File.generated(config, f"examples/{notebook.name}", abs_src_path=str(notebook)))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Turn links to files of the repository into links to the pages that show them."""
    uri = page.file.src_uri
    source = ROOT / OUTSIDE.get(uri, f"docs/{uri}")

    def link(match: re.Match[str]) -> str:
        target, anchor = match[1], match[2] or ""
        path = os.path.relpath(source.parent / target, ROOT)
        inside = next((name for name, file in OUTSIDE.items() if file == path), path.removeprefix("docs/"))
        return f"]({os.path.relpath(inside, Path(uri).parent)}{anchor})"

    return re.sub(r"\]\((?!https?:|mailto:|#)([^)#\s]+)(#[^)\s]*)?\)", link, markdown)


def on_page_content(html_text: str, page: Any, **_: Any) -> str:
    """Write formulas as MathML, which browsers draw without a script, and lead keys of papers to the references."""

    def formula(match: re.Match[str]) -> str:
        text, block = html.unescape(match[2]).strip(), match[1] == "div"
        return convert(text[2:-2], display="block" if block else "inline")

    written = re.sub(r'<(div|span) class="arithmatex">(.*?)</\1>', formula, html_text, flags=re.S)
    return with_references(written, page.file.src_uri)


def with_references(page: str, uri: str) -> str:
    """
    Turn `[Stehman2014]` and `[Cochran1977, Olofsson2014]` into links, outside code and links.

    In the list of references itself the entries get the anchors.
    """
    keys = re.findall(r"^- \*\*([^*]+)\*\*:", (ROOT / "docs/references.md").read_text(encoding="utf-8"), re.M)
    if uri == "references.md":
        return re.sub(r"<li><strong>([^<]+)</strong>:", r'<li id="\1"><strong>\1</strong>:', page)
    place = os.path.relpath("references.html", Path(uri).parent)
    pattern = re.compile(
        rf"\[((?:{'|'.join(map(re.escape, keys))})(?:, (?:{'|'.join(map(re.escape, keys))}))*)\]"
    )

    def link(match: re.Match[str]) -> str:
        return ", ".join(f'<a href="{place}#{key}">{key}</a>' for key in match[1].split(", "))

    inside, parts = 0, re.split(r"(<[^>]+>)", page)
    for number, part in enumerate(parts):
        if re.match(r"</?(?:code|pre|a)\b", part):
            inside += -1 if part.startswith("</") else 1
        elif not inside and "[" in part:
            parts[number] = pattern.sub(lambda match: f"[{link(match)}]", part)
    return "".join(parts)


def api_page() -> str:
    """
    List the flat names of `tesela`, one heading each.

    The names are read from the imports for type checkers, as an editor does; nothing is imported.
    """
    tree = ast.parse((ROOT / "src/tesela/__init__.py").read_text(encoding="utf-8"))
    block = next(node for node in tree.body if isinstance(node, ast.If))
    names = {
        alias.asname or alias.name: f"{node.module}.{alias.name}"
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    classes = sorted(name for name in names if name[0].isupper() and not name.endswith("Error"))
    errors = sorted(name for name in names if name.endswith("Error"))
    opening = sorted(name for name in names if name.startswith("open_"))
    verbs = sorted(set(names) - {*classes, *errors, *opening})
    parts = [
        "# Functions and classes\n\nAll public names are flat in `import tesela`. What goes in and what comes out: "
        "[from Python](python.md).\n"
    ]
    for title, listed in (
        ("What does the work", verbs),
        ("What opens", opening),
        ("What you hold", classes),
        ("Errors", errors),
    ):
        parts.append(f"## {title}\n")
        parts += [f"::: {names[name]}\n    options:\n      heading_level: 3\n" for name in listed]
    return "\n".join(parts)
