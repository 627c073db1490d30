"""Both languages whole: every text has its Chinese, every word of the system is one of them."""

from __future__ import annotations

import ast
import enum
import re
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from babel.messages.extract import extract_from_dir
from babel.messages.pofile import read_po

from headend.domain.alarms import AlarmKind, AlarmState, Severity
from headend.domain.bulk import ItemState, JobState
from headend.domain.cases import CaseKind, Step
from headend.domain.commands import CommandKind, CommandState
from headend.domain.ledger import Operation, Phase
from headend.domain.nights import CellState, GapReason
from headend.domain.places import GatewayKind
from headend.domain.purchases import SaleState
from headend.domain.reconciliation import DifferenceKind
from headend.domain.roles import Permission, Role
from headend.domain.rooms import RoomState
from headend.domain.supply import Rule
from headend.web import texts, told, words
from protocols.card_image import CardReason
from protocols.reading import Origin

WEB = Path(texts.__file__).parent
PLACES = re.compile(r"%(?:\(\w+\))?[sd]")


def texts_said_at_once() -> set[str]:
    """Texts of `gettext(visitor)("…")`, and of a name that is its result: the extractor of Babel
    knows names only, whatever they are called."""
    found: set[str] = set()
    for path in WEB.rglob("*.py"):
        tree = ast.parse(path.read_text())
        named = {
            target.id
            for node in ast.walk(tree)
            if isinstance(node, ast.Assign) and is_gettext(node.value)
            for target in node.targets
            if isinstance(target, ast.Name)
        }
        for node in ast.walk(tree):
            if not isinstance(node, ast.Call) or not node.args:
                continue
            said = is_gettext(node.func) or (
                isinstance(node.func, ast.Name) and node.func.id in named
            )
            text = node.args[0]
            if said and isinstance(text, ast.Constant) and isinstance(text.value, str):
                found.add(text.value)
    return found


def is_gettext(node: ast.expr) -> bool:
    """Whether this is a call of desk.gettext."""
    if not isinstance(node, ast.Call):
        return False
    name = node.func
    return (name.attr if isinstance(name, ast.Attribute) else getattr(name, "id", "")) == "gettext"


def test_texts_said_at_once_are_seen() -> None:
    assert "At most 200 characters." in texts_said_at_once(), "forms.py says it so"


def texts_of_the_desk() -> set[str]:
    found = extract_from_dir(
        str(WEB),
        method_map=[("templates/**.html", "jinja2"), ("**.py", "python")],
        options_map={
            "templates/**.html": {
                "trim_blocks": "true",
                "lstrip_blocks": "true",
                "newstyle_gettext": "true",
            }
        },
        keywords={"_": None, "N_": None, "say": None},
    )
    seen = {message for _, _, message, _, _ in found if isinstance(message, str)}
    return seen | texts_said_at_once()


def test_every_text_has_its_chinese_and_none_is_left_over() -> None:
    catalog: dict[str, str] = {}
    for path in texts.catalogues("zh"):
        with path.open("rb") as file:
            here = {str(m.id): str(m.string) for m in read_po(file) if m.id}
        assert not set(here) & set(catalog), f"{path.name} says again what another file says"
        catalog |= here
    wanted = texts_of_the_desk()
    assert len(wanted) > 400, "the extraction itself broke"
    assert sorted(wanted - {k for k, v in catalog.items() if v}) == [], "without Chinese"
    assert sorted(set(catalog) - wanted) == [], "no longer said anywhere"
    for english, chinese in catalog.items():
        assert sorted(PLACES.findall(english)) == sorted(PLACES.findall(chinese)), english


def test_templates_say_nothing_outside_the_catalogue() -> None:
    """Words between tags are in _(); the few that are not are names and units."""
    allowed = {"kWh", "W", "PDF", "V", "A", "p", "English"}
    for path in sorted((WEB / "templates").glob("*.html")):
        if path.name == "macros.html":
            continue  # pieces of markup, not sentences; its texts are extracted all the same
        text = re.sub(r"block here %\}\w*", "%}", path.read_text())
        text = re.sub(r"\{#.*?#\}|\{%.*?%\}|\{\{.*?\}\}", " ", text, flags=re.DOTALL)
        text = re.sub(r"<(span|p) class=\"mono\".*?</(span|p)>", " ", text)
        text = re.sub(r"<[^>]*>", " ", text)
        left = set(re.findall(r"[A-Za-z]{2,}", text)) - allowed
        assert not left, f"{path.name}: {left}"


@pytest.mark.parametrize(
    "kind",
    [
        CommandKind, CommandState, GapReason, CellState, SaleState, JobState, ItemState, Operation,
        Phase, DifferenceKind, Role, Permission, RoomState, Rule, GatewayKind, CaseKind, Step,
        AlarmKind, AlarmState, Severity, Origin, CardReason,
    ],
)  # fmt: skip
def test_each_value_people_see_has_its_word_in_both_languages(kind: type[enum.Enum]) -> None:
    for member in kind:
        assert member in words.WORDS, member
        chinese = words.said(member, "zh")
        assert words.said(member, "en") == words.WORDS[member]
        assert chinese in ("DTU", "Modbus TCP") or not chinese.isascii(), member


@pytest.mark.parametrize(
    ("fen", "shown"),
    [(0, "0.00"), (5, "0.05"), (-5, "−0.05"), (123456, "1,234.56"), (None, "–"), (-1, "−0.01")],
)
def test_money_is_written_to_the_fen(fen: int | None, shown: str) -> None:
    assert texts.yuan(fen) == shown


def test_a_share_is_never_rounded_up_to_whole() -> None:
    assert texts.permille(99_999, 100_000) == "99.99 %"
    assert texts.permille(1, 1) == "100.00 %"
    assert texts.permille(0, 0) == "–"


@pytest.mark.parametrize(
    ("language", "shown"),
    [("en", "nothing heard since 2026-11-28 01:30"), ("zh", "2026-11-28 01:30")],
)
def test_an_instant_in_a_sentence_is_of_the_wall_clock_here(language: str, shown: str) -> None:
    said = told.told("nothing heard since 2026-11-27 17:30 UTC", language)
    here = texts.on_the_wall(said, ZoneInfo("Asia/Shanghai"))
    assert shown in here
    assert "UTC" not in here


@pytest.mark.parametrize(
    ("asked", "language"),
    [("zh-CN,zh;q=0.9,en;q=0.8", "zh"), ("en-GB,en", "en"), ("fr,zh;q=0.5", "zh"), ("", "en")],
)
def test_a_browser_is_greeted_in_its_own_language(asked: str, language: str) -> None:
    assert texts.preferred(asked) == language
