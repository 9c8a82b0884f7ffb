"""The file of a published cascade: its experts stand beside it, whatever folders they came from."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

from tesela.io.stac_items import slug
from tesela.mapping.cascade import FILE, Cascade


def expert_name(member: str) -> str:
    """Name of a member's file in a published cascade."""
    return f"{slug(member)}.safetensors"


def expert_files(path: Path) -> dict[str, Path]:
    """Files of the experts that a cascade's file names, by member; `read_cascade` has read it before."""
    file = path / FILE if path.is_dir() else path
    tables = tomllib.loads(file.read_text(encoding="utf-8"))["experts"]
    return {
        str(table.get("name", Path(table["path"]).stem)): file.parent / str(table["path"]) for table in tables
    }


def cascade_text(cascade: Cascade) -> str:
    """TOML of a cascade whose experts stand beside it under `expert_name`."""
    lines = [f"name = {json.dumps(cascade.name)}"]
    for member in cascade.members:
        lines += ["", "[[experts]]", f"path = {json.dumps(expert_name(member.name))}"]
        lines.append(f"name = {json.dumps(member.name)}")
        if member.gate is not None:
            lines += [
                f"parent = {json.dumps(member.gate.parent)}",
                f"classes = {json.dumps(list(member.gate.classes))}",
                f"min_confidence = {float(member.gate.min_confidence)}",
            ]
    return "\n".join(lines) + "\n"
