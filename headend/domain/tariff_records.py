"""Terms of a tariff as JSON and back; anybody may have written the JSON."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import Any, Final

from headend.domain.tariffs import BadTerms, Hours, Rate, Season, Slot, Terms, Tier

_FIELDS: Final = frozenset(
    {
        "prices_x4", "seasons", "rest_weekdays", "holidays", "working_days", "tiers", "tier_reset",
        "service_x4", "fee_fen_per_day",
    }
)  # fmt: skip


def to_record(terms: Terms) -> dict[str, Any]:
    """The terms as JSON; from_record() is the inverse. The same terms give the same record."""
    return {
        "prices_x4": {
            rate.value: terms.prices_x4[rate] for rate in Rate if rate in terms.prices_x4
        },
        "seasons": [
            {"from": f"{one.month:02}-{one.day:02}", "hours": _hours(one.hours)}
            | ({} if one.rest is None else {"rest": _hours(one.rest)})
            for one in terms.seasons
        ],
        "rest_weekdays": sorted(terms.rest_weekdays),
        "holidays": sorted(day.isoformat() for day in terms.holidays),
        "working_days": sorted(day.isoformat() for day in terms.working_days),
        "tiers": [{"above_wh": t.above_wh, "extra_x4": t.extra_x4} for t in terms.tiers],
        "tier_reset": "{:02}-{:02}".format(*terms.tier_reset),
        "service_x4": terms.service_x4,
        "fee_fen_per_day": terms.fee_fen_per_day,
    }


def _hours(hours: Hours) -> list[list[str]]:
    return [[time_of(slot.minute), slot.rate.value] for slot in hours.slots]


def time_of(minute: int) -> str:
    """A minute of the day as 07:30."""
    return f"{minute // 60:02}:{minute % 60:02}"


def from_record(record: object) -> Terms:
    """Terms from JSON. Raises BadTerms: one sentence, and the field it is about."""
    if not isinstance(record, Mapping):
        raise BadTerms("terms", "terms are written as an object with names")
    if unknown := sorted(str(name) for name in record.keys() - _FIELDS):
        raise BadTerms("terms", "terms have no %s", unknown[0])
    given: dict[str, Any] = {}
    prices = _mapping(record.get("prices_x4"), "prices_x4")
    given["prices_x4"] = {_rate(name): price for name, price in prices.items()}
    if "seasons" in record:
        given["seasons"] = tuple(_season(one) for one in _list(record["seasons"], "season"))
    weekdays = _list(record.get("rest_weekdays", []), "rest_weekdays")
    if any(type(day) is not int for day in weekdays):
        raise BadTerms("rest_weekdays", "a weekday is 1 (Monday) to 7 (Sunday)")
    given["rest_weekdays"] = frozenset(weekdays)
    for name in ("holidays", "working_days"):
        given[name] = frozenset(_day(one, name) for one in _list(record.get(name, []), name))
    given["tiers"] = tuple(_tier(one) for one in _list(record.get("tiers", []), "tiers"))
    given["tier_reset"] = month_day(record.get("tier_reset", "01-01"), "tier_reset")
    for name in ("service_x4", "fee_fen_per_day"):
        given[name] = record.get(name, 0)
    return Terms(**given)


def _rate(name: object) -> Rate:
    try:
        return Rate(name)
    except ValueError as error:
        known = ", ".join(rate.value for rate in Rate)
        raise BadTerms("hours", "%s is no kind of hours; there are %s", name, known) from error


def _season(record: object) -> Season:
    parts = _mapping(record, "season")
    if parts.keys() - {"from", "hours", "rest"}:
        raise BadTerms("season", "a season has from, hours and rest")
    month, day = month_day(parts.get("from"), "season")
    rest = parts.get("rest")
    return Season(
        month, day, _day_hours(parts.get("hours")), None if rest is None else _day_hours(rest)
    )


def _day_hours(record: object) -> Hours:
    slots = []
    for one in _list(record, "hours"):
        if not isinstance(one, list | tuple) or len(one) != 2:
            raise BadTerms("hours", "a stretch is a time and a kind of hours")
        slots.append(Slot(minute_of(one[0]), _rate(one[1])))
    return Hours(tuple(slots))


def minute_of(text: object) -> int:
    """07:30 as a minute of the day. Raises BadTerms."""
    hour, colon, minute = str(text).partition(":")
    if not (colon and _digits(hour, 1, 2) and _digits(minute, 2, 2)):
        raise BadTerms("hours", "%s is no time; write 07:30", text)
    if int(hour) > 23 or int(minute) > 59:
        raise BadTerms("hours", "%s is no time; write 07:30", text)
    return int(hour) * 60 + int(minute)


def month_day(text: object, where: str) -> tuple[int, int]:
    """07-01 as month and day. Raises BadTerms."""
    month, dash, day = str(text).partition("-")
    if not (dash and _digits(month, 1, 2) and _digits(day, 1, 2)):
        raise BadTerms(where, "%s is no date of a year; write 07-01", text)
    return int(month), int(day)


def _tier(record: object) -> Tier:
    parts = _mapping(record, "tiers")
    if parts.keys() != {"above_wh", "extra_x4"}:
        raise BadTerms("tiers", "a tier has above_wh and extra_x4")
    return Tier(parts["above_wh"], parts["extra_x4"])


def _day(text: object, where: str) -> date:
    try:
        return date.fromisoformat(str(text))
    except ValueError as error:
        raise BadTerms(where, "%s is no date; write 2026-10-01", text) from error


def _digits(text: str, low: int, high: int) -> bool:
    return text.isascii() and text.isdecimal() and low <= len(text) <= high


def _mapping(value: object, where: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise BadTerms(where, "%s is an object with names", where)
    return value


def _list(value: object, where: str) -> list[Any]:
    if not isinstance(value, list | tuple):
        raise BadTerms(where, "%s is a list", where)
    return list(value)
