"""Customers: who pays for which meters, and how they are called and reached."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from typing import Final

NAME_MAX: Final = 80
PHONE_MAX: Final = 40
ADDRESS_MAX: Final = 200
_NUMBER: Final = re.compile(r"[0-9A-Za-z-]{1,24}")
# Digits with what people write between them; letters would be a name in the wrong column.
_PHONE: Final = re.compile(r"[0-9+()\-/ #*]{3,40}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """How a customer is called and reached."""

    name: str
    phone: str = ""
    address: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Customer:
    """One account of a property: a person with a number, and as many meters as they pay for."""

    customer_id: int
    customer_no: str  # 户号
    site_id: int
    person: Person
    opened_at: datetime
    closed_at: datetime | None


def is_customer_number(text: str) -> bool:
    """Whether a text can be a customer number: 1 to 24 letters, digits and dashes."""
    return _NUMBER.fullmatch(text) is not None


def is_phone(text: str) -> bool:
    """Whether a text can be a telephone number; none at all is one too."""
    return not text or _PHONE.fullmatch(text) is not None


def is_name(text: str) -> bool:
    """Whether a text can be a name: 1 to 80 characters that can be printed."""
    return 1 <= len(text) <= NAME_MAX and text.isprintable()


def is_address(text: str) -> bool:
    """Whether a text can be an address; none at all is one too."""
    return len(text) <= ADDRESS_MAX and (not text or text.isprintable())
