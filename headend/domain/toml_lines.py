"""What tomllib leaves to us of TOML: where a key stands, which an error has to tell, and writing.

A light look at the text, used only once something is wrong: it finds table headers and keys at the
beginning of a line, which is how people write them. What it does not find, it answers with the
nearest thing above.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence

_HEADER = re.compile(r"\s*(\[\[?)\s*([\w.\- \"']+?)\s*\]\]?\s*(?:#.*)?")
_KEY = re.compile(r"\s*([\w\-.]+|\"[^\"]*\"|'[^']*')\s*=")


class TomlLines:
    """Line numbers, from 1, of the tables and keys of one text."""

    def __init__(self, text: str) -> None:
        self._lines = text.splitlines()
        self._tables: dict[tuple[str, int], int] = {}
        self._keys: dict[tuple[str, int, str], int] = {}
        counts: dict[str, int] = {}
        table, index = "", 0
        for number, line in enumerate(self._lines, start=1):
            if header := _HEADER.fullmatch(line):
                name, _, below = header[2].replace('"', "").partition(".")
                if header[1] == "[[" and not below:
                    counts[name] = counts.get(name, -1) + 1
                table, index = name, counts.get(name, 0)
                self._tables.setdefault((table, index), number)
                if below:
                    self._keys.setdefault((table, index, below.partition(".")[0]), number)
            elif key := _KEY.match(line):
                name = key[1].strip("\"'").partition(".")[0]
                self._keys.setdefault((table, index, name), number)

    def of_key(self, table: str, index: int, key: str) -> int:
        """The line of `key` in the index-th table of that name, else of the table's header."""
        found = self._keys.get((table, index, key))
        # At the top level an array of tables may also be written inline: meters = [{…}, …].
        return found or self._tables.get((table, index)) or self._keys.get(("", 0, table), 1)

    def of_item(self, table: str, index: int, key: str, item: str) -> int:
        """The line of one text inside the list at `key`, else of the key."""
        begins = self.of_key(table, index, key)
        for number in range(begins, len(self._lines) + 1):
            line = self._lines[number - 1]
            if f'"{item}"' in line or f"'{item}'" in line:
                return number
            if number > begins and (_HEADER.fullmatch(line) or _KEY.match(line)):
                break
        return begins


def toml_table(name: str, values: Mapping[str, object], *, single: bool = False) -> str:
    """One table of a site file: [[name]], or [name] when `single`, with its keys."""
    header = f"[{name}]" if single else f"[[{name}]]"
    return "\n".join([header, *(f"{key} = {_written(value)}" for key, value in values.items()), ""])


def _written(value: object) -> str:
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{key} = {_written(one)}" for key, one in value.items()) + " }"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return "[" + ", ".join(map(_written, value)) + "]"
    # A basic string of TOML escapes what a string of JSON escapes, and DEL besides.
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    return str(value).lower() if isinstance(value, bool) else str(value)
