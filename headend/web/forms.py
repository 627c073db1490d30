"""What people type, understood or named as wrong beside the field. Nothing is guessed."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from fastapi import Request

from headend.domain.deductions import SHARE_PERMILLE_MAX
from headend.domain.ledger import AMOUNT_FEN_MAX, AMOUNT_FEN_MIN
from headend.domain.roles import ROLES, Operator, Permission
from headend.domain.sign_in import LOCKED_FOR, NotSignedIn
from headend.services import sign_in
from headend.services.services import Services
from headend.web import desk
from headend.web.desk import Form, Visitor
from headend.web.texts import yuan

REASON_MAX: Final = 200
# Digits as they are, with two decimals at most. No thousands: 1,50 may be meant either way.
_YUAN: Final = re.compile(r"(\d{1,9})(?:\.(\d{1,2}))?")
_SIGNED: Final = re.compile(r"-?\d{1,9}(?:\.\d{1,2})?")


def amount_fen(form: Form, visitor: Visitor, name: str = "amount") -> int | None:
    """An amount of money in yuan, 0.01 to 50,000; None: the field says what is wrong.

    Full-width digits, as Chinese keyboards write them, are digits.
    """
    say = desk.gettext(visitor)
    typed = unicodedata.normalize("NFKC", form.get(name)).removesuffix("元").removeprefix("¥")
    if not typed.strip():
        form.wrong(name, say("Enter an amount in yuan."))
        return None
    understood = _YUAN.fullmatch(typed.strip())
    if understood is None:
        form.wrong(name, say("Write yuan as digits, for instance 50 or 50.50."))
        return None
    whole, cents = understood.groups()
    fen = int(whole) * 100 + int((cents or "0").ljust(2, "0"))
    if not AMOUNT_FEN_MIN <= fen <= AMOUNT_FEN_MAX:
        form.wrong(
            name,
            say("From %s to %s yuan.") % (yuan(AMOUNT_FEN_MIN), yuan(AMOUNT_FEN_MAX)),
        )
        return None
    return fen


def cash_fen(form: Form, visitor: Visitor, name: str) -> int | None:
    """Cash in a drawer, 0 yuan and up; None: the field says what is wrong."""
    typed = unicodedata.normalize("NFKC", form.get(name)).removesuffix("元").removeprefix("¥")
    understood = _YUAN.fullmatch(typed.strip())
    if understood is None:
        form.wrong(name, desk.gettext(visitor)("Write yuan as digits, for instance 50 or 50.50."))
        return None
    whole, cents = understood.groups()
    return int(whole) * 100 + int((cents or "0").ljust(2, "0"))


def amount_or_none_fen(form: Form, visitor: Visitor, name: str) -> int:
    """An amount that may be left out or zero, at most 50,000 yuan; what is wrong is said."""
    if not form.get(name):
        return 0
    say = desk.gettext(visitor)
    fen = cash_fen(form, visitor, name)
    if fen is not None and fen > AMOUNT_FEN_MAX:
        form.wrong(name, say("At most %s yuan.") % yuan(AMOUNT_FEN_MAX))
    return fen or 0


def energy_wh(form: Form, visitor: Visitor, name: str) -> int | None:
    """An energy in kWh with two decimals at most; None: the field says what is wrong."""
    say = desk.gettext(visitor)
    typed = unicodedata.normalize("NFKC", form.get(name)).lower().removesuffix("kwh").strip()
    understood = _YUAN.fullmatch(typed)
    whole, part = understood.groups() if understood else ("0", None)
    wh = int(whole) * 1000 + int((part or "0").ljust(2, "0")) * 10
    if not 0 < wh < 1_000_000_000:
        form.wrong(name, say("Write kWh as digits, for instance 100 or 100.5."))
        return None
    return wh


def share_permille(form: Form, visitor: Visitor, name: str) -> int:
    """A share of each payment, typed as per cent from 0 to 90; what is wrong is said."""
    say = desk.gettext(visitor)
    typed = unicodedata.normalize("NFKC", form.get(name)).removesuffix("%").strip()
    percent = int(typed) if typed.isdecimal() and len(typed) < 4 else -1
    if not 0 <= percent * 10 <= SHARE_PERMILLE_MAX:
        form.wrong(name, say("A whole number of per cent from 0 to 90."))
    return percent * 10


def id_of(form: Form, name: str = "command_id") -> UUID | None:
    """The id of what a form wants; None: this desk has not made that form."""
    try:
        return UUID(form.get(name))
    except ValueError:
        return None


def threshold_fen(form: Form, visitor: Visitor, name: str) -> int | None:
    """A credit in yuan that may be below zero; None: the field says what is wrong."""
    typed = unicodedata.normalize("NFKC", form.get(name)).replace("−", "-")
    if _SIGNED.fullmatch(typed) is None:
        form.wrong(name, desk.gettext(visitor)("Write yuan as digits, for instance 0 or -20."))
        return None
    whole, _, cents = typed.lstrip("-").partition(".")
    fen = int(whole) * 100 + int(cents.ljust(2, "0") or "0")
    return -fen if typed.startswith("-") else fen


def reason(form: Form, visitor: Visitor, name: str = "reason") -> str:
    """Why somebody does this: kept for ever, so it is not empty."""
    typed = form.get(name)
    if not typed:
        form.wrong(name, desk.gettext(visitor)("Say why: it is kept with the order."))
    elif len(typed) > REASON_MAX:
        form.wrong(name, desk.gettext(visitor)("At most 200 characters."))
    return typed


@dataclass(frozen=True, slots=True)
class Second:
    """The second person of a form: none given, or who it is."""

    operator: Operator | None = None

    @property
    def operator_id(self) -> int | None:
        """For the services."""
        return None if self.operator is None else self.operator.operator_id


async def second_person(
    request: Request, services: Services, visitor: Visitor, form: Form
) -> Second:
    """Who approves at this browser with a name and password of their own, if anybody does.

    Wrong ones count as wrong tries to sign in.
    """
    if not form.get("approver"):
        return Second()
    say = desk.gettext(visitor)
    known = await sign_in.recognise(
        services.database,
        services.clock,
        name=form.get("approver"),
        password=form.typed.get("approver_password", ""),
        code=form.get("approver_code"),
        address=request.client.host if request.client else "",
    )
    if isinstance(known, NotSignedIn):
        texts = {
            NotSignedIn.LOCKED: say("Too many wrong tries: wait %d minutes.")
            % (LOCKED_FOR.total_seconds() // 60),
            NotSignedIn.WRONG: say("Name or password is wrong."),
            NotSignedIn.CODE_NEEDED: say("This person signs in with a code: enter it too."),
            NotSignedIn.WRONG_CODE: say("This code is wrong: wait for the next one."),
        }
        form.wrong("approver", texts[known])
        return Second()
    if Permission.APPROVE not in ROLES[known.role]:
        form.wrong("approver", say("This person may not approve."))
        return Second()
    return Second(known)
