"""The newest heading of CHANGELOG.md must be the version of the package."""

import re
import sys
from pathlib import Path

root = Path(__file__).parent.parent
version = re.search(r'__version__ = "(.+?)"', (root / "src/sibling/__init__.py").read_text())
heading = re.search(r"^## (\S+)", (root / "CHANGELOG.md").read_text(), re.MULTILINE)
if version is None or heading is None or version[1] != heading[1]:
    sys.exit(f"CHANGELOG.md begins with {heading and heading[1]}, the package is {version and version[1]}.")
