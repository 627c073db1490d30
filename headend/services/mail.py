"""Letters by SMTP. The only place that knows aiosmtplib.

`smtp://host:587` asks for TLS (STARTTLS) and refuses to go on without it; `smtps://host:465` begins
with it; `smtp+plain://127.0.0.1:25` is for a mail server on the same machine and nothing else.
"""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from email.message import EmailMessage
from email.utils import format_datetime
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

import aiosmtplib

from headend.domain.clock import Clock
from headend.domain.problems import Problem
from headend.store.letters import Letter

SEND_S_MAX: Final = 30.0
_PORTS: Final = {"smtp": 587, "smtps": 465, "smtp+plain": 25}
_LOOPBACK: Final = ("127.0.0.1", "::1", "localhost")


@dataclass(frozen=True, slots=True, kw_only=True)
class SmtpPlace:
    """A mail server, how to get in, and who writes."""

    host: str
    port: int
    scheme: str
    user: str
    password_file: str
    ca_file: str
    sender: str


def smtp_place(
    url: str, *, password_file: str = "", ca_file: str = "", sender: str = ""
) -> SmtpPlace | None:
    """From the settings; None: no mail. Raises Problem("settings-unreadable")."""
    if not url:
        return None
    detail = ""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise Problem("settings-unreadable", file="smtp_url", detail=error) from error
    if parts.scheme not in _PORTS or not parts.hostname:
        detail = "it is like smtp://user@mail.example:587 or smtps://user@mail.example:465"
    elif parts.password is not None:
        detail = "the password belongs into smtp_password_file"
    elif parts.scheme == "smtp+plain" and parts.hostname not in _LOOPBACK:
        detail = "without TLS only to this machine itself"
    elif "@" not in sender:
        detail = "mail_from is the address letters come from"
    if detail:
        raise Problem("settings-unreadable", file="smtp_url", detail=detail)
    return SmtpPlace(
        host=parts.hostname or "",
        port=port or _PORTS[parts.scheme],
        scheme=parts.scheme,
        user=unquote(parts.username or ""),
        password_file=password_file,
        ca_file=ca_file,
        sender=sender,
    )


class Mailer:
    """Sends one letter at a time, each on a connection of its own."""

    def __init__(self, place: SmtpPlace, clock: Clock) -> None:
        self._place = place
        self._clock = clock

    async def send(self, letter: Letter) -> None:
        """One letter; its Message-ID is that of the outbox, so a copy is known as one.

        Raises Problem("mail-not-taken").
        """
        message = self._message([letter.recipient], letter.subject, letter.body)
        message["Message-ID"] = f"<{letter.letter_id}@{self._domain()}>"
        await self._send(message)

    async def send_file(
        self, to: Sequence[str], subject: str, text: str, *, name: str, media_type: str, data: bytes
    ) -> None:
        """One letter with one file. Raises Problem("mail-not-taken")."""
        message = self._message(to, subject, text)
        kind, _, subtype = media_type.partition("/")
        message.add_attachment(
            data, maintype=kind, subtype=subtype or "octet-stream", filename=name
        )
        await self._send(message)

    def _domain(self) -> str:
        return self._place.sender.rpartition("@")[2].rstrip(">")

    def _message(self, to: Sequence[str], subject: str, text: str) -> EmailMessage:
        message = EmailMessage()
        try:
            message["From"] = self._place.sender
            message["To"] = ", ".join(to)
            message["Subject"] = " ".join(subject.split())
        except ValueError as error:
            raise Problem("mail-not-taken", detail=error) from error
        message["Date"] = format_datetime(self._clock.now())
        message["Auto-Submitted"] = "auto-generated"  # no holiday notes back, RFC 3834
        message.set_content(text)
        return message

    async def _send(self, message: EmailMessage) -> None:
        place = self._place
        try:
            context = ssl.create_default_context(cafile=place.ca_file or None)
            password = _password(place)
            await aiosmtplib.send(
                message,
                hostname=place.host,
                port=place.port,
                use_tls=place.scheme == "smtps",
                start_tls=place.scheme == "smtp",
                tls_context=None if place.scheme == "smtp+plain" else context,
                username=place.user or None,
                password=password,
                timeout=SEND_S_MAX,
            )
        except (aiosmtplib.SMTPException, OSError, ValueError) as error:
            detail = str(error).strip() or type(error).__name__
            raise Problem("mail-not-taken", detail=detail.rstrip(".")) from error


def _password(place: SmtpPlace) -> str | None:
    """From its file, at each letter: a changed one needs no restart."""
    if not place.password_file:
        return None
    return Path(place.password_file).read_text(encoding="utf-8").splitlines()[0]
