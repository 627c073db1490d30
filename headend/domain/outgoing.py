"""What goes out: signatures, when something is tried again, where it may go, what it says."""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from urllib.parse import urlsplit

from headend.domain.alarms import AlarmKind

# A receiver that is away for a long weekend misses nothing.
GIVE_UP_AFTER: Final = timedelta(days=4)
RETRY_FIRST: Final = timedelta(seconds=10)
RETRY_MAX: Final = timedelta(hours=6)
URL_CHARS_MAX: Final = 500
EVENT_KINDS: Final = (
    *(f"command.{state}" for state in (
        "queued", "claimed", "sent", "unknown", "escalated", "confirmed", "refused", "expired",
        "cancelled", "late", "wrong_code",
    )),
    *(f"sale.{state}" for state in ("opened", "landed", "reversed", "burned")),
    *(f"alarm.{state}" for state in ("raised", "acknowledged", "closed")),
    "night.closed",
)  # fmt: skip
FAMILIES: Final = ("command", "sale", "alarm", "night")
_TELEPHONE: Final = re.compile(r"\+?\d{6,15}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sms:
    """One short message. `message_id`: the same message has the same one, however often it goes."""

    message_id: str
    telephone: str
    text: str


def signature(secret: str, timestamp: str, body: bytes) -> str:
    """HMAC-SHA256 over timestamp, a dot and the body, as the header has it."""
    digest = hmac.new(secret.encode(), timestamp.encode() + b"." + body, hashlib.sha256)
    return f"v1={digest.hexdigest()}"


def secret_of(key: bytes, webhook_id: int) -> str:
    """The secret of a webhook, from the key of this head-end: no table holds it."""
    digest = hmac.new(key, f"webhook {webhook_id}".encode(), hashlib.sha256)
    return f"whsec_{digest.hexdigest()}"


def retry_after(failures: int) -> timedelta:
    """How long to rest after so many failures in a row, one and up."""
    longer: timedelta = RETRY_FIRST * 2 ** min(failures - 1, 20)
    return min(longer, RETRY_MAX)


def url_fault(url: str, hosts: Collection[str]) -> str | None:
    """Why nothing is sent to this address; None: it may be. `hosts`: the only ones, if any."""
    if len(url) > URL_CHARS_MAX or not url.isascii() or any(sign <= " " for sign in url):
        return f"an address is ASCII without spaces and {URL_CHARS_MAX} characters at most"
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        return str(error)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        return "an address begins with https:// or http:// and a host"
    if parts.username is not None or parts.fragment or port == 0:
        return "an address has no password and no #"
    if hosts and parts.hostname not in hosts:
        return f"{parts.hostname} is not among webhook_hosts of the settings"
    return None


def wants(kinds: Sequence[str], kind: str) -> bool:
    """Whether a subscription is to this kind of event."""
    return not kinds or kind in kinds or kind.partition(".")[0] in kinds


def is_telephone(text: str) -> bool:
    """Whether a message can go there."""
    return _TELEPHONE.fullmatch(text.replace(" ", "").replace("-", "")) is not None


def alarm_mail(
    language: str, *, word: str, where: str, detail: str, at: datetime
) -> tuple[str, str]:
    """(subject, text) of a letter about one alarm."""
    if language == "zh":
        text = f"{word}\n位置：{where}\n详情：{detail}\n时间：{at:%Y-%m-%d %H:%M} UTC\n"
        return f"告警：{word} {where}", text
    return (
        f"Alarm: {word} {where}",
        f"{word}\nwhere: {where}\ndetail: {detail}\nat: {at:%Y-%m-%d %H:%M} UTC\n",
    )


def low_credit_text(language: str, kind: AlarmKind, where: str, credit: str) -> str:
    """What a tenant is told when credit runs low: the first time, and once more before dark."""
    last = kind is AlarmKind.VERY_LOW_CREDIT
    if language == "zh":
        return f"【电费提醒】{where}：{credit}。" + (
            "即将停电，请立即充值。" if last else "余额不足，请及时充值。"
        )
    return f"Electricity for {where}: {credit}. " + (
        "Power will be cut soon: please top up now." if last else "Please top up soon."
    )
