"""Signing in at the desk: what a password must be, and when somebody is locked out. Pure.

Length beats variety: a long sentence is easy to keep and hard to guess, so no signs are demanded;
what everybody guesses first is refused.
"""

from __future__ import annotations

import enum
from datetime import timedelta
from typing import Final

PASSWORD_CHARS_MIN: Final = 10
PASSWORD_CHARS_MAX: Final = 128  # a hash of a novel would be work for nothing
# Five wrong tries in a row, and a name rests. Long enough that guessing leads nowhere, short enough
# that a cashier who mistyped is back before the queue leaves.
TRIES_MAX: Final = 5
# One office shares an address; a guesser who tries many names is stopped here.
TRIES_OF_AN_ADDRESS_MAX: Final = 50
LOCKED_FOR: Final = timedelta(minutes=15)
# A browser left alone over lunch stays, over night it does not.
SESSION_IDLE: Final = timedelta(hours=4)
SESSION_LONGEST: Final = timedelta(hours=12)
assert SESSION_IDLE < SESSION_LONGEST

# Without digits at their end, in lower case: what lists of stolen passwords begin with.
_GUESSED_FIRST: Final = frozenset({
    "password", "passw0rd", "qwerty", "qwertyuiop", "asdfghjkl", "zxcvbnm", "letmein", "welcome",
    "iloveyou", "admin", "administrator", "headend", "electricity", "woaini", "woaini1314",
    "qazwsx", "qazwsxedc", "abcdefghij", "abcdefg", "changeme", "secret",
})  # fmt: skip
_RUNS: Final = ("01234567890123456789", "98765432109876543210", "abcdefghijklmnopqrstuvwxyz")


class BadPassword(enum.Enum):
    """Why a new password is not taken, in order of precedence."""

    TOO_SHORT = "too-short"
    TOO_LONG = "too-long"
    HOLDS_THE_NAME = "holds-the-name"
    EASILY_GUESSED = "easily-guessed"


def bad_password(password: str, name: str) -> BadPassword | None:
    """What is wrong with it as the new password of the operator `name`; None: nothing."""
    if len(password) < PASSWORD_CHARS_MIN:
        return BadPassword.TOO_SHORT
    if len(password) > PASSWORD_CHARS_MAX:
        return BadPassword.TOO_LONG
    lowered = password.lower()
    if len(name) > 2 and name.lower() in lowered:
        return BadPassword.HOLDS_THE_NAME
    stem = lowered.rstrip("0123456789!.@#_-")
    is_run = any(lowered in run for run in _RUNS)
    if stem in _GUESSED_FIRST or not stem or is_run or len(set(lowered)) < 4:
        return BadPassword.EASILY_GUESSED
    return None


class NotSignedIn(enum.Enum):
    """Why somebody was not let in."""

    LOCKED = "locked"  # too many wrong tries: wait
    WRONG = "wrong"  # name or password, not told which
    CODE_NEEDED = "code-needed"
    WRONG_CODE = "wrong-code"
