"""Where the repository, its documents and the real data lie."""

import os
from pathlib import Path

TESTS = Path(__file__).parent
ROOT = TESTS.parent
SOURCE = ROOT / "src" / "tesela"
SHARED = ROOT.parent / "shared"
DATA = Path(os.environ.get("TESELA_DATA", SHARED / "data"))
SCHEMAS = Path(os.environ.get("TESELA_SCHEMAS", SHARED / "schemas"))
