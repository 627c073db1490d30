"""House rules, read from the source: each says what to write instead."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("headend", "protocols", "gateways", "simulators", "bench", "tests")
PRODUCT = ("headend", "protocols", "gateways", "simulators")

LINES_MAX = 400  # a file is read in one sitting
FUNCTION_LINES_MAX = 70  # a function is seen whole

# What must not be written, where it may be all the same, and what to write instead.
BANNED = {
    r"\bdatetime\.now\(|\butcnow\(": (
        {"headend/domain/clock.py", "simulators/town_clock.py", "tests"},  # each world has its own
        "take a Clock: the instant comes through a door",
    ),
    r"\brandom\.(random|randint|choice)\(": (set(), "a random.Random(seed) that is passed in"),
    r"^\s*from \S+ import \*": (set(), "the names that are needed"),
    r"except Exception:\s*pass": (set(), "handle it, or let it be seen"),
    r"\btime\.sleep\(": (
        {"simulators/precise485.py", "headend/cli/orders.py", "tests", "bench"},
        "await asyncio.sleep(): the loop waits for nobody",
    ),
}
MARKS = re.compile(r"\b(TO" + r"DO|FIX" + r"ME|XX" + r"X|HA" + r"CK)\b")


def sources(*packages: str) -> list[Path]:
    found = [path for package in packages for path in sorted((ROOT / package).rglob("*.py"))]
    assert found
    return found


def named(path: Path) -> str:
    return str(path.relative_to(ROOT))


ALL = pytest.mark.parametrize("path", sources(*PACKAGES), ids=named)


@ALL
def test_a_file_is_read_in_one_sitting(path: Path) -> None:
    lines = len(path.read_text().splitlines())
    assert lines <= LINES_MAX, f"{named(path)} has {lines} lines: find the two ideas in it"


@ALL
def test_a_function_is_seen_whole(path: Path) -> None:
    for function in functions(path):
        lines = (function.end_lineno or 0) - function.lineno + 1
        assert lines <= FUNCTION_LINES_MAX, f"{named(path)}:{function.lineno} {function.name}"


@ALL
def test_nothing_banned_and_nothing_left_over(path: Path) -> None:
    text = path.read_text()
    if path != Path(__file__):
        assert not MARKS.search(text), f"{named(path)}: do it, or open an issue"
    for pattern, (allowed, instead) in BANNED.items():
        if path == Path(__file__) or any(named(path).startswith(place) for place in allowed):
            continue
        found = re.search(pattern, text, re.MULTILINE)
        assert found is None, f"{named(path)}: not {found and found[0].strip()!r} but {instead}"


@pytest.mark.parametrize("path", sources(*PRODUCT), ids=named)
def test_every_module_says_what_it_is(path: Path) -> None:
    tree = ast.parse(path.read_text())
    assert not tree.body or ast.get_docstring(tree), f"{named(path)} needs a docstring"


@pytest.mark.parametrize("path", sources(*PRODUCT), ids=named)
def test_what_others_may_call_is_documented(path: Path) -> None:
    tree = ast.parse(path.read_text())
    bare = [
        node.name
        for node in tree.body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
        and not node.name.startswith("_")
        and not ast.get_docstring(node)
        and "simulators" not in path.parts  # the opponent explains itself by what it does
    ]
    assert not bare, f"{named(path)}: {', '.join(bare)} need a docstring"


@pytest.mark.parametrize("path", sources("headend", "protocols"), ids=named)
def test_money_and_energy_are_integers(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.AnnAssign | ast.arg):
            name = node.arg if isinstance(node, ast.arg) else ast.unparse(node.target)
            kind = ast.unparse(node.annotation) if node.annotation else ""
            if re.search(r"_(fen|wh|varh)(_|$)", name):
                assert "float" not in kind, f"{named(path)}:{node.lineno} {name}: {kind}"


def test_the_way_in_is_in_the_readme() -> None:
    first_screen = "\n".join((ROOT / "README.md").read_text().splitlines()[:40])
    assert "make demo" in first_screen
    assert "make test" in first_screen


def functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node
