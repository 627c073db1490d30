"""What the program wrote down in English and somebody reads later, said in the reader's language.

Rules, alarms and lines keep the clause that was true at that moment as text. A clause of the table
is recognised as a whole and said anew around its values; what is in no clause is shown as it is
stored, since it was typed by people.
"""

from __future__ import annotations

import functools
import re
from typing import Final

from headend.domain.problems import Problem
from headend.web.details import DETAILS
from headend.web.texts import N_, translations

#: the clauses, the more special before the more general
CLAUSES: Final = (
    # domain/supply.py: why a meter is spared
    N_("%(reason)s, until %(until)s"),
    N_("%(reason)s, for ever"),
    N_("%(count)s meters hang behind it"),
    N_("its relay is open"),
    N_("its relay is closed"),
    N_("an order (%(kind)s) has not ended"),
    N_("paid after the cut was ordered"),
    N_("paid after its balance was read"),
    N_("nobody is cut at weekends"),
    N_("nobody is cut before %(time)s"),
    N_("its relay was switched less than %(minutes)s minutes ago"),
    N_("its balance is not known"),
    N_("its balance is dated in the future"),
    N_("its balance is %(hours)s h old"),
    N_("%(amount)s yuan remain"),
    N_("arrears of %(amount)s yuan cannot be true"),
    # domain/alarms.py
    N_("remaining credit %(amount)s yuan"),
    N_("arrears of %(amount)s yuan"),
    N_("nothing heard since %(at)s UTC"),
    N_("no line of it is up since %(at)s UTC"),
    N_("its relay is open and %(watts)s W flow"),
    N_("its clock is %(seconds)s s ahead of the wall clock"),
    N_("its clock is %(seconds)s s behind the wall clock"),
    N_("its clock is %(minutes)s min ahead of the wall clock"),
    N_("its clock is %(minutes)s min behind the wall clock"),
    N_("its clock is %(days)s days ahead of the wall clock"),
    N_("its clock is %(days)s days behind the wall clock"),
    N_("its outcome is %(state)s since %(at)s UTC"),
    # gateways, headend/services/dial_ins.py: why a line is down, or a meter silent
    N_("DTU %(name)s has not dialled in"),
    N_("the line is down: %(reason)s"),
    N_("the other side hung up"),
    N_("closed by this program"),
    N_("not opened yet"),
    N_("%(request)s: no answer"),
    # services/bulk.py, services/settling.py
    N_("The bulk job halted: %(reason)s"),
    N_("stopped at the desk"),
    N_("taken back at the desk"),
    N_("credit has arrived"),
    N_("the relay is closed: the meter's own ledger decides again"),
    N_("the card landed first"),
    # services/seals.py, store/cards.py, protocols/meters: remarks
    N_("the card was ended: %(reason)s"),
    N_("lost: %(reason)s"),
    N_(
        "which state opens this cabinet's relays is not proven; try it on one circuit, then set "
        "option forced_open_state to 0 or 1"
    ),
    N_("cabinet of %(size)s, %(kind)s"),
    # protocols/meters: titles of the types
    N_("%(maker)s, single-phase user"),
    N_("%(maker)s, three-phase user"),
    N_("%(maker)s, three-phase user by CT"),
    N_("%(maker)s, single-phase prepaid"),
    N_("%(maker)s, three-phase prepaid"),
    N_("%(norm)s heat meter"),
    N_("%(norm)s water meter"),
    N_("%(norm)s water meter with a valve"),
    N_("%(norm)s meter, reading only"),
    N_("%(norm)s prepaid meter, single-phase"),
    N_("%(norm)s prepaid meter, three-phase"),
    N_("%(norm)s meter, single-phase"),
    N_("%(norm)s meter, three-phase"),
    N_("single-phase user"),
    N_("three-phase user"),
    N_("multi-rate, internal relay"),
    N_("%(name)s: %(reason)s"),
)
_VALUE: Final = re.compile(r"%\((\w+)\)s")
# Of details the one that says the most in its own words is meant; "name: reason" is anything.
_IN_TURN: Final = (
    *CLAUSES[:-1],
    *sorted(DETAILS, key=lambda one: -len(_VALUE.sub("", one))),
    CLAUSES[-1],
)


@functools.cache
def _pattern(clause: str) -> re.Pattern[str]:
    pieces = _VALUE.split(clause)
    # Every other piece is the name of a value.
    text = "".join(
        f"(?P<{piece}>.+?)" if at % 2 else re.escape(piece) for at, piece in enumerate(pieces)
    )
    return re.compile(text, re.DOTALL)


def said(problem: Problem, language: str) -> str:
    """A problem's sentence with its detail, both in this language."""
    return problem.text(language, lambda text: told(text, language))


def told(text: str, language: str) -> str:
    """A stored clause in this language, the clauses within it too."""
    if language == "en" or not text:
        return text
    for clause in _IN_TURN:
        if found := _pattern(clause).fullmatch(text):
            values = {name: told(value, language) for name, value in found.groupdict().items()}
            said = translations(language).gettext(clause)
            return said % values if values else said
    return text
