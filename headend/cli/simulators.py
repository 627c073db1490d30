"""`headend simulate`: hands over to the simulators, a program of its own with no code of ours."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence


def run(arguments: Sequence[str]) -> int:
    """Run `python -m simulators` with these arguments; its exit code."""
    return subprocess.call([sys.executable, "-m", "simulators", *arguments])
