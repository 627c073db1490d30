"""Typed reading of one table of a site file: wrong keys, types and ranges in one sentence each."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable, Iterator, Mapping
from datetime import time
from typing import TypeVar

from headend.domain.problems import Problem
from protocols.meter_type import Options

K = TypeVar("K")

# A name is shown on boards, in logs and on receipts: one line of a phone.
NAME_CHARS_MAX = 60


class SiteFileError(Problem):
    """A site file cannot be imported: one sentence with file and line."""

    def __init__(self, file: str, line: int, what: str, place: BadPlace | None = None) -> None:
        """`place`: the table and key that are wrong, where it is not the text as such."""
        self.file = file
        self.line = line
        self.what = what
        self.place = place
        super().__init__("site-file", detail=f"{file}, line {line}: {what}.")


class BadPlace(Exception):
    """Something in one table is wrong; where exactly is looked up only then."""

    def __init__(self, table: str, index: int, key: str, what: str, item: str | None) -> None:
        super().__init__(what)
        self.table = table
        self.index = index
        self.key = key
        self.item = item  # one text of the list at `key`


def nearest(word: str, known: Iterable[str]) -> str:
    """ "; did you mean …?" without its question mark, or nothing when no known word is near."""
    found = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f", did you mean {found[0]}" if found else ""


class Table:
    """One table: [site], or the index-th of [[meters]]."""

    __slots__ = ("_index", "_table", "_values", "who")

    def __init__(
        self,
        table: str,
        index: int,
        values: Mapping[str, object],
        who: str,
        keys: Collection[str],
    ) -> None:
        self._table = table
        self._index = index
        self._values = values
        self.who = who  # "meter M-101", for people
        if keys:
            self.only(keys)

    def bad(self, key: str, what: str, item: str | None = None) -> BadPlace:
        """The error to raise about `key`."""
        return BadPlace(self._table, self._index, key, what, item)

    def only(self, keys: Collection[str], why: str = "") -> None:
        """Refuse every other key."""
        for key in self._values:
            if key not in keys:
                what = f"{why} and has no {key}" if why else f"unknown key {key} in {self.who}"
                raise self._misplaced(key, f"{what}{nearest(key, keys)}; known are {_listed(keys)}")

    def without(self, key: str, why: str) -> None:
        """Refuse one key."""
        if key in self._values:
            raise self.bad(key, why)

    def _misplaced(self, key: str, what: str) -> BadPlace:
        if self._table:
            return self.bad(key, what)
        return BadPlace(key, 0, "", what, None)  # at the top the key is a table's name

    def one(self, key: str, keys: Collection[str]) -> Table:
        """The table [key], which must be there."""
        values = self._values.get(key)
        if not isinstance(values, dict):
            raise self._misplaced(key, f"the file needs one table [{key}]")
        return Table(key, 0, values, key, keys)

    def many(self, key: str, noun: str, keys: Collection[str]) -> Iterator[Table]:
        """The tables [[key]], maybe none."""
        tables = self._values.get(key, [])
        if not isinstance(tables, list) or not all(isinstance(one, dict) for one in tables):
            raise self._misplaced(key, f"write each {noun} under its own [[{key}]]")
        for index, values in enumerate(tables):
            name = values.get("name")
            who = f"{noun} {name}" if isinstance(name, str) and name else f"{noun} {index + 1}"
            yield Table(key, index, values, who, keys)

    def text(self, key: str) -> str:
        """A text that must be there and say something."""
        value = self.optional_text(key)
        if value is None:
            raise self.bad(key, f"{self.who} has no {key}")
        return value

    def optional_text(self, key: str) -> str | None:
        value = self._values.get(key)
        if value is None:
            return None
        if not isinstance(value, str):
            raise self.bad(key, f"{key} of {self.who} must be a text in quotes, not {_told(value)}")
        if not value.strip():
            raise self.bad(key, f"{key} of {self.who} is empty")
        return value

    def name(self) -> str:
        """The table's name: one printable line without blanks around it."""
        name = self.text("name")
        if name != name.strip() or not name.isprintable() or len(name) > NAME_CHARS_MAX:
            raise self.bad(
                "name",
                f"the name of {self.who} must be at most {NAME_CHARS_MAX} printable characters "
                "without blanks around them",
            )
        return name

    def unique_name(self, seen: dict[str, Table]) -> str:
        """The table's name, which no other of its kind may have."""
        name = self.name()
        if name in seen:
            noun = self.who.partition(" ")[0]
            raise self.bad("name", f'two {noun}s are called "{name}"; rename one')
        seen[name] = self
        return name

    def choice(self, key: str, allowed: Collection[str], default: str | None = None) -> str:
        """One of a few words."""
        value = self.optional_text(key) or default or self.text(key)
        if value not in allowed:
            raise self.bad(
                key,
                f'{key} of {self.who} cannot be "{value}"{nearest(value, allowed)}; '
                f"allowed are {', '.join(allowed)}",
            )
        return value

    def integer(self, key: str, low: int, high: int, default: int | None = None) -> int:
        """A whole number from low to high; without a default it must be there."""
        value = self.optional_integer(key, low, high)
        if value is None:
            value = default
        if value is None:
            raise self.bad(key, f"{self.who} has no {key}")
        return value

    def optional_integer(self, key: str, low: int, high: int) -> int | None:
        value = self._values.get(key)
        if value is None:
            return None
        if not isinstance(value, int) or isinstance(value, bool):
            raise self.bad(key, f"{key} of {self.who} must be a whole number, not {_told(value)}")
        if not low <= value <= high:
            raise self.bad(key, f"{key} of {self.who} must be {low} to {high}, not {value}")
        return value

    def clock_time(self, key: str, default: time) -> time:
        """A time of day: "23:55" or TOML's own 23:55:00."""
        value = self._values.get(key, default)
        if isinstance(value, str):
            try:
                value = time.fromisoformat(value)
            except ValueError:
                value = None
        if not isinstance(value, time) or value.tzinfo is not None:
            raise self.bad(key, f'{key} of {self.who} must be a time of day like "23:55"')
        return value

    def texts(self, key: str) -> list[str]:
        """A list of texts, maybe empty ones; none when the key is not there."""
        value = self._values.get(key, [])
        if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
            raise self.bad(key, f'{key} of {self.who} must be a list of texts like ["A", "B"]')
        return value

    def options(self) -> Options:
        """Driver options: a table of texts, whole numbers, true and false."""
        value = self._values.get("options", {})
        if not isinstance(value, dict):
            raise self.bad("options", f"options of {self.who} must be a table like {{ key = 1 }}")
        for key, one in value.items():
            if not isinstance(one, (str, int, bool)):
                raise self.bad(
                    "options",
                    f"option {key} of {self.who} must be a text, a whole number, true or false, "
                    f"not {_told(one)}",
                )
        return value

    def reference(self, key: str, noun: str, known: Collection[str]) -> str:
        """The name of something else in the file."""
        value = self.text(key)
        if value not in known:
            raise self.bad(key, self.unknown(noun, value, known))
        return value

    def optional_reference(self, key: str, noun: str, known: Collection[str]) -> str | None:
        return None if self._values.get(key) is None else self.reference(key, noun, known)

    def unknown(self, noun: str, value: str, known: Collection[str]) -> str:
        """The sentence about a name that nothing in the file has."""
        return f'{self.who} names a {noun} "{value}" that is not in the file{nearest(value, known)}'

    def not_taken(self, key: str, taken: dict[K, str], value: K, name: str, what: str) -> None:
        """Refuse a second owner of something there is one of."""
        other = taken.setdefault(value, name)
        if other != name:
            noun = self.who.partition(" ")[0]
            raise self.bad(key, f"{noun}s {other} and {name} both use {what}; change one of them")


def _listed(keys: Iterable[str]) -> str:
    return ", ".join(sorted(keys))


def _told(value: object) -> str:
    """A wrong value as people write it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (int, float, time)):
        return str(value)
    if isinstance(value, str):
        return f'"{value}"'
    return "a list" if isinstance(value, list) else "this"
