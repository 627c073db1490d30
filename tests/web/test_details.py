"""What a refusal adds to its sentence is Chinese too: details are found in the sources."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from headend.domain.problems import Problem
from headend.web import texts
from headend.web.described import problem_record
from headend.web.details import DETAILS
from headend.web.told import said, told

HEADEND = Path(texts.__file__).parents[1]
# Calls whose first words after the reason are a detail.
REFUSING = {"Rejected", "CardNo", "NotBooked", "AgainstTerms", "CannotBill", "Held"}
# They name a parameter of the API as it is written there, for whoever programs.
FOR_PROGRAMMERS = re.compile(
    r"[a-z_]+: .*|action is .*|answer is .*|since and until .*|If-Match .*|a cap is money"
    r"|\w+ by that|query\..*|.* is no kind of event|\w+ MB"
)
# Not of a screen: files, seals and programs on this machine, said by the command line.
ELSEWHERE = {
    "services/adopting.py", "services/seals.py", "domain/site_tables.py", "settings.py",
    "store/broker.py", "store/errors.py", "units/check.py", "domain/reconciliation.py",
}  # fmt: skip


def details() -> Iterator[tuple[str, str]]:
    """Where each detail stands, and an example of it."""
    for folder in ("domain", "services", "store", "web"):
        for path in sorted((HEADEND / folder).rglob("*.py")):
            where = path.relative_to(HEADEND).as_posix()
            if where in ELSEWHERE:
                continue
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Call):
                    for given in details_of(node):
                        if re.search("[a-z]{3}", given):
                            yield f"{where}:{node.lineno}", given


def details_of(call: ast.Call) -> Iterator[str]:
    name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    given = [word.value for word in call.keywords if word.arg == "detail"]
    if name in REFUSING:
        given += call.args[:2]
    for one in given:
        for text in (one.body, one.orelse) if isinstance(one, ast.IfExp) else (one,):
            if isinstance(text, ast.Constant) and isinstance(text.value, str):
                yield text.value
            elif isinstance(text, ast.JoinedStr):
                yield "".join(
                    str(part.value) if isinstance(part, ast.Constant) else "7"
                    for part in text.values
                )


def test_there_are_details_to_look_at() -> None:
    assert len(list(details())) > 80


def test_every_detail_has_its_chinese() -> None:
    english = {
        where: text
        for where, text in details()
        if not FOR_PROGRAMMERS.fullmatch(text) and told(text, "zh") == text
    }
    assert english == {}


@pytest.mark.parametrize("clause", DETAILS)
def test_a_clause_is_said_by_its_own_translation(clause: str) -> None:
    """None is caught by a more general one that stands before it."""
    example = re.sub(r"%\(\w+\)s", "7", clause)
    expected = re.sub(r"%\(\w+\)s", "7", texts.translations("zh").gettext(clause))
    assert told(example, "zh") == expected


def test_a_cabinet_is_said_as_one() -> None:
    """Its own clause, and not that of the user in it."""
    assert not re.search("[a-z]", told("cabinet of 36, single-phase user", "zh"))


def test_a_problem_is_chinese_down_to_its_detail() -> None:
    problem = Problem("not-paid", meter="A-101", detail="12.00 yuan of 50.00")
    assert "50.00 元中的 12.00 元" in said(problem, "zh")
    assert "12.00 yuan of 50.00" in said(problem, "en")
    record = problem_record(problem, "zh")
    assert record["title"] == record["title_zh"] == said(problem, "zh")
