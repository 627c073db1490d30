"""The terms of a tariff as they are typed, and what is wrong with them, field by field."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Mapping
from datetime import date
from functools import partial
from typing import Final, TypeVar

from headend.domain.tariff_records import minute_of, month_day, time_of
from headend.domain.tariffs import SEASONS_MAX, BadTerms, Hours, Rate, Season, Slot, Terms, Tier
from headend.web import desk
from headend.web.desk import Form, Visitor
from headend.web.texts import N_

T = TypeVar("T")

_PRICE: Final = re.compile(r"(\d{1,3})(?:\.(\d{1,4}))?")
_KWH: Final = re.compile(r"(\d{1,9})(?:\.(\d{1,3}))?")
WEEKDAYS: Final = range(1, 8)

# What people call the kinds of hours, in both languages.
_RATES: Final[Mapping[str, Rate]] = {
    "sharp": Rate.SHARP, "尖": Rate.SHARP, "尖峰": Rate.SHARP,
    "peak": Rate.PEAK, "峰": Rate.PEAK, "高峰": Rate.PEAK,
    "flat": Rate.FLAT, "平": Rate.FLAT, "平段": Rate.FLAT,
    "valley": Rate.VALLEY, "谷": Rate.VALLEY, "低谷": Rate.VALLEY,
    "deep valley": Rate.DEEP_VALLEY, "deep_valley": Rate.DEEP_VALLEY, "深谷": Rate.DEEP_VALLEY,
}  # fmt: skip

# Every sentence of BadTerms, so that the catalogue has its Chinese; a test compares.
SENTENCES: Final = (
    N_("a day has 1 to %s stretches"),
    N_("the first stretch of a day begins at 00:00"),
    N_("a stretch begins between 00:00 and 23:59"),
    N_("the stretches of a day are in order, each time once"),
    N_("a weekday is 1 (Monday) to 7 (Sunday)"),
    N_("at most %s holidays and working days"),
    N_("this kind of hours occurs in the day and has no price"),
    N_("a year has 1 to %s seasons"),
    N_("the seasons of a year are in order, each date once"),
    N_("hours of rest days are given, and no day is a rest day"),
    N_("at most %s tiers"),
    N_("a tier begins above 0 kWh"),
    N_("the tiers are in order, each energy once"),
    N_("%s is not a whole number from 0 to %s"),
    N_("no year has a day %s-%s"),
    N_("terms are written as an object with names"),
    N_("terms have no %s"),
    N_("%s is no kind of hours; there are %s"),
    N_("a season has from, hours and rest"),
    N_("a stretch is a time and a kind of hours"),
    N_("%s is no time; write 07:30"),
    N_("%s is no date of a year; write 07-01"),
    N_("a tier has above_wh and extra_x4"),
    N_("%s is no date; write 2026-10-01"),
    N_("%s is an object with names"),
    N_("%s is a list"),
)
# And of CannotHold, which a push keeps with the meter it is about.
CANNOT: Final = (
    N_("its type takes no day tables, so it cannot tell hours apart"),
    N_("its type takes no prices"),
    N_("it has four prices and none for deep valley"),
    N_("a meter with its own ledger knows no tiers; bill it from the platform"),
    N_("a meter with its own ledger takes no daily fee; bill it from the platform"),
    N_("it knows no weekends or holidays, and this tariff has hours for them"),
    N_("it has four date zones, and this tariff more seasons"),
    N_("it has two day tables, and this tariff more kinds of days"),
    N_("nothing is written into it: the platform bills it"),
    N_("the circuit that carries the tables of its cabinet does not hold them"),
    N_("another version or tariff holds for it now"),
)

# Where the editor shows what Terms itself finds wrong.
_FIELD_OF: Final = {
    **{rate.value: f"price_{rate.value}" for rate in Rate},
    "hours": "season_1_hours",
    "season": "season_1_from",
    "terms": "form",
    "prices_x4": "form",
}


def told(bad: BadTerms, visitor: Visitor) -> str:
    """What is wrong with terms, in the visitor's language."""
    sentence = desk.gettext(visitor)(bad.sentence)
    return sentence % bad.facts if bad.facts else sentence


def price_x4(form: Form, visitor: Visitor, name: str) -> int | None:
    """A price in yuan a kWh with four decimals at most; None: left empty, or wrong and said so."""
    say = desk.gettext(visitor)
    typed = _plain(form.get(name)).removesuffix("元")
    if not typed:
        return None
    understood = _PRICE.fullmatch(typed)
    if understood is None:
        form.wrong(name, say("Write yuan a kWh with four decimals at most, for instance 0.5469."))
        return None
    whole, rest = understood.groups()
    return int(whole) * 10_000 + int((rest or "0").ljust(4, "0"))


def _plain(text: str) -> str:
    return unicodedata.normalize("NFKC", text).strip()


def energy_wh(form: Form, visitor: Visitor, name: str) -> int | None:
    """Energy in kWh with three decimals at most, above 0; None: the field says what is wrong."""
    found = _wh(_plain(form.get(name)).lower().removesuffix("kwh").removesuffix("度").strip())
    if not found:
        say = desk.gettext(visitor)
        form.wrong(name, say("Write kWh as digits, for instance 100 or 62.5."))
    return found or None


def _wh(typed: str) -> int | None:
    understood = _KWH.fullmatch(typed)
    if understood is None:
        return None
    whole, rest = understood.groups()
    return int(whole) * 1000 + int((rest or "0").ljust(3, "0"))


def terms_of(form: Form, visitor: Visitor) -> Terms | None:
    """The terms as typed; None: beside each field that is wrong stands why."""
    prices = {rate: price_x4(form, visitor, f"price_{rate.value}") for rate in Rate}
    service = price_x4(form, visitor, "service")
    fee_fen = _fee_fen(form, visitor)
    seasons = _seasons(form, visitor)
    tiers = _lines(form, visitor, "tiers", lambda line: _tier(line, visitor))
    year = _plain(form.get("tier_reset")) or "01-01"
    reset = _try(form, visitor, "tier_reset", lambda: month_day(year, "tier_reset"))
    holidays = _lines(form, visitor, "holidays", lambda line: _day(line, "holidays"))
    working_days = _lines(form, visitor, "working_days", lambda line: _day(line, "working_days"))
    if form.errors or reset is None:
        return None
    try:
        return Terms(
            prices_x4={rate: price for rate, price in prices.items() if price is not None},
            seasons=tuple(seasons),
            rest_weekdays=frozenset(day for day in WEEKDAYS if form.get(f"rest_{day}")),
            holidays=frozenset(holidays),
            working_days=frozenset(working_days),
            tiers=tuple(tiers),
            tier_reset=reset,
            service_x4=service or 0,
            fee_fen_per_day=fee_fen,
        )
    except BadTerms as bad:
        form.wrong(_FIELD_OF.get(bad.where, bad.where), told(bad, visitor))
        return None


def _fee_fen(form: Form, visitor: Visitor) -> int:
    typed = _plain(form.get("fee")).removesuffix("元")
    understood = re.fullmatch(r"(\d{1,4})(?:\.(\d{1,2}))?", typed or "0")
    if understood is None:
        say = desk.gettext(visitor)
        form.wrong("fee", say("Write yuan as digits, for instance 50 or 50.50."))
        return 0
    whole, rest = understood.groups()
    return int(whole) * 100 + int((rest or "0").ljust(2, "0"))


def _seasons(form: Form, visitor: Visitor) -> list[Season]:
    found = []
    for number in range(1, SEASONS_MAX + 1):
        begins, text = f"season_{number}_from", f"season_{number}_hours"
        if not (form.get(begins) or form.get(text) or number == 1):
            continue
        when = _plain(form.get(begins)) or ("01-01" if number == 1 else "")
        dates = _try(form, visitor, begins, partial(month_day, when, "season"))
        hours = _hours(form, visitor, text, "00:00 flat" if number == 1 else "")
        rest_text = f"season_{number}_rest"
        rest = _hours(form, visitor, rest_text) if form.get(rest_text) else None
        if dates is None or hours is None:
            continue
        one = _try(form, visitor, begins, partial(Season, *dates, hours, rest))
        if one is not None:
            found.append(one)
    return found


def _hours(form: Form, visitor: Visitor, name: str, empty: str = "") -> Hours | None:
    def made() -> Hours:
        lines = filter(None, map(_plain, (form.get(name) or empty).splitlines()))
        return Hours(tuple(_slot(line) for line in lines))

    return _try(form, visitor, name, made)


def _slot(line: str) -> Slot:
    begins, _, word = line.partition(" ")
    rate = _RATES.get(word.strip().lower())
    if rate is None:
        known = ", ".join(one.value.replace("_", " ") for one in Rate)
        raise BadTerms("hours", "%s is no kind of hours; there are %s", word or line, known)
    return Slot(minute_of(begins), rate)


def _tier(line: str, visitor: Visitor) -> Tier:
    above, _, extra = line.partition(" ")
    above_wh = _wh(above)
    side = Form({"extra": extra})
    extra_x4 = price_x4(side, visitor, "extra")
    if above_wh is None or extra_x4 is None:
        raise BadTerms("tiers", N_("write each tier as kWh and yuan, for instance: 2160 0.05"))
    return Tier(above_wh, extra_x4)


def _day(line: str, where: str) -> date:
    try:
        return date.fromisoformat(line)
    except ValueError as error:
        raise BadTerms(where, "%s is no date; write 2026-10-01", line) from error


def _lines(form: Form, visitor: Visitor, name: str, read: Callable[[str], T]) -> list[T]:
    found = []
    for line in filter(None, map(_plain, form.get(name).replace(",", "\n").splitlines())):
        one = _try(form, visitor, name, partial(read, line))
        if one is not None:
            found.append(one)
    return found


def _try(form: Form, visitor: Visitor, name: str, make: Callable[[], T]) -> T | None:
    try:
        return make()
    except BadTerms as bad:
        form.wrong(name, told(bad, visitor))
        return None


def typed(terms: Terms) -> dict[str, str]:
    """Terms as the editor shows them; terms_of() is the inverse."""
    found = {f"price_{rate.value}": decimals(price) for rate, price in terms.prices_x4.items()}
    for number, season in enumerate(terms.seasons, 1):
        found[f"season_{number}_from"] = f"{season.month:02}-{season.day:02}"
        found[f"season_{number}_hours"] = _typed_hours(season.hours)
        if season.rest is not None:
            found[f"season_{number}_rest"] = _typed_hours(season.rest)
    found |= {f"rest_{day}": "1" for day in terms.rest_weekdays}
    found["holidays"] = "\n".join(sorted(day.isoformat() for day in terms.holidays))
    found["working_days"] = "\n".join(sorted(day.isoformat() for day in terms.working_days))
    found["tiers"] = "\n".join(
        f"{tier.above_wh // 1000}.{tier.above_wh % 1000:03}".rstrip("0").rstrip(".")
        + f" {decimals(tier.extra_x4)}"
        for tier in terms.tiers
    )
    found["tier_reset"] = "{:02}-{:02}".format(*terms.tier_reset)
    found["service"] = decimals(terms.service_x4) if terms.service_x4 else ""
    fee = terms.fee_fen_per_day
    found["fee"] = f"{fee // 100}.{fee % 100:02}" if fee else ""
    return found


def _typed_hours(hours: Hours) -> str:
    return "\n".join(
        f"{time_of(slot.minute)} {slot.rate.value.replace('_', ' ')}" for slot in hours.slots
    )


def decimals(price: int) -> str:
    """1/10,000 yuan as it is typed: 0.5469, 0.62."""
    text = f"{price // 10_000}.{price % 10_000:04}".rstrip("0")
    return text + "00" if text.endswith(".") else text
