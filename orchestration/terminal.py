"""Where the command line writes."""

from __future__ import annotations

import sys

from rich.console import Console

console = Console() if sys.stdout.isatty() else Console(width=140)
problems = Console(stderr=True)
