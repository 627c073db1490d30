"""How the CLI speaks: tables and progress to people, JSON lines to programs."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any, TypeVar

import typer
from rich.console import Console

from headend.domain import money
from headend.domain.problems import Problem, language_of_terminal

T = TypeVar("T")

out = Console(highlight=False)
err = Console(stderr=True, highlight=False)


def say(chinese: str, english: str) -> str:
    """The one of the two that the terminal's language asks for."""
    return chinese if language_of_terminal() == "zh" else english


def complain(problem: Problem) -> typer.Exit:
    """Print the one sentence and its code to standard error; gives the exit to raise."""
    err.print(
        f"{problem.text(language_of_terminal())} [{problem.code}]", markup=False, soft_wrap=True
    )
    return typer.Exit(problem.kind.exit_code)


def print_json(value: object) -> None:
    """One JSON value on one line of standard output, for programs."""
    sys.stdout.write(json.dumps(value, ensure_ascii=False, default=str) + "\n")
    sys.stdout.flush()


def guarded(work: Callable[[], T]) -> T:
    """Run a command's work; a Problem becomes its sentence and exit code."""
    try:
        return work()
    except Problem as problem:
        raise complain(problem) from None
    except KeyboardInterrupt:
        raise typer.Exit(130) from None


def kwh(energy_wh: Any) -> str:
    """Energy for people: kWh with two decimals, or a dash."""
    return "–" if energy_wh is None else f"{energy_wh // 1000}.{energy_wh % 1000 // 10:02d}"


def yuan(amount_fen: Any) -> str:
    """Money for people: yuan with two decimals, or a dash."""
    return money.yuan(amount_fen)
