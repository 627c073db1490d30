"""The two languages of the desk, and how instants, money and energy are written in them.

The texts in templates and code are English; locales/zh has the Chinese of each, a file for each
part of the desk. They are compiled when the program starts, so that no compiled copy can be older
than its source.
"""

from __future__ import annotations

import functools
import io
import re
from datetime import datetime, timedelta, tzinfo
from gettext import GNUTranslations, NullTranslations
from pathlib import Path
from typing import Final

from babel.messages.catalog import Catalog
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po

from headend.domain import money

LANGUAGES: Final = ("zh", "en")
LOCALES: Final = Path(__file__).parent / "locales"
# An instant within a stored sentence, in either language.
_INSTANT: Final = re.compile(r"(\d{4}-\d\d-\d\d \d\d:\d\d)(?: UTC|\uff08UTC\uff09)")


@functools.cache
def translations(language: str) -> NullTranslations:
    """What a language says, all its files as one; English is what the sources say."""
    if language == "en":
        return NullTranslations()
    catalog = Catalog(locale=language)
    for path in catalogues(language):
        with path.open("rb") as file:
            for message in read_po(file, locale=language):
                if message.id:
                    catalog[message.id] = message
    compiled = io.BytesIO()
    write_mo(compiled, catalog)
    compiled.seek(0)
    return GNUTranslations(compiled)


def catalogues(language: str) -> list[Path]:
    """The files with the texts of a language."""
    return sorted((LOCALES / language / "LC_MESSAGES").glob("*.po"))


def N_(text: str) -> str:
    """Marks a text for the catalogue that is translated later, where the language is known."""
    return text


def preferred(accept_language: str) -> str:
    """The first of our languages a browser asks for; English without any."""
    for part in accept_language.lower().split(","):
        head = part.split(";")[0].strip()
        if head.startswith("zh"):
            return "zh"
        if head.startswith("en"):
            return "en"
    return "en"


def yuan(fen: int | None) -> str:
    """Fen as yuan with two decimals and thousands apart; a real minus sign."""
    if fen is None:
        return "–"
    whole, rest = divmod(abs(fen), 100)
    return f"{'−' if fen < 0 else ''}{whole:,}.{rest:02}"


def yuan_plain(fen: int) -> str:
    """As it is typed into a field: 1234.50."""
    return money.yuan(fen)


def kwh(wh: int | None) -> str:
    """Wh as kWh with two decimals."""
    return "–" if wh is None else f"{wh // 1000:,}.{wh % 1000 // 10:02}"


def price_x4(price: int) -> str:
    """1/10,000 yuan a kWh as yuan with four decimals; a real minus sign."""
    whole, rest = divmod(abs(price), 10_000)
    return f"{'−' if price < 0 else ''}{whole}.{rest:04}"


def kwh_exact(wh: int) -> str:
    """Wh as kWh with three decimals; a real minus sign."""
    return f"{'−' if wh < 0 else ''}{abs(wh) // 1000:,}.{abs(wh) % 1000:03}"


def fen_x5(exact: int) -> str:
    """1/100,000 fen as yuan with seven decimals; a real minus sign."""
    whole, rest = divmod(abs(exact), 10_000_000)
    return f"{'−' if exact < 0 else ''}{whole:,}.{rest:07}"


def local(at: datetime | None, zone: tzinfo, pattern: str = "%Y-%m-%d %H:%M:%S") -> str:
    """An instant on the wall clock of a zone."""
    return "–" if at is None else at.astimezone(zone).strftime(pattern)


def on_the_wall(text: str, zone: tzinfo) -> str:
    """A sentence with its instants of UTC as the wall clock of a zone shows them."""

    def shown(found: re.Match[str]) -> str:
        return local(datetime.fromisoformat(f"{found[1]}+00:00"), zone, "%Y-%m-%d %H:%M")

    return _INSTANT.sub(shown, text)


def age(elapsed: timedelta, language: str) -> str:
    """How old, in the one unit that matters."""
    seconds = max(0, int(elapsed.total_seconds()))
    for step, english, chinese in (
        (86_400, "d", " 天"),
        (3_600, "h", " 小时"),
        (60, "min", " 分钟"),
    ):
        if seconds >= 2 * step or (step != 86_400 and seconds >= step):
            return f"{seconds // step}{chinese if language == 'zh' else ' ' + english}"
    return f"{seconds} 秒" if language == "zh" else f"{seconds} s"


def permille(part: int, whole: int) -> str:
    """A share with two decimals, rounded down: 99.99 % is not 100 %."""
    if not whole:
        return "–"
    share = part * 10_000 // whole
    return f"{share // 100}.{share % 100:02} %"
