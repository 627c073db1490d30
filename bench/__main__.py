"""python -m bench [NAME …]: each question in a process of its own, so that none warms another's."""

from __future__ import annotations

import pkgutil
import subprocess
import sys

import bench


def questions() -> list[str]:
    """Every module of this package that does not begin with an underscore."""
    names = (module.name for module in pkgutil.iter_modules(bench.__path__))
    return sorted(name for name in names if not name.startswith("_"))


def main(wanted: list[str]) -> int:
    """The number of questions that could not be answered."""
    known = questions()
    for name in wanted:
        if name not in known:
            print(f"there is no bench called {name}; there are: {', '.join(known)}")
            return 2
    failed = 0
    for name in wanted or known:
        print(f"== {name}", flush=True)
        failed += (
            subprocess.run([sys.executable, "-m", f"bench.{name}"], check=False).returncode > 0
        )
        print(flush=True)
    return failed


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
