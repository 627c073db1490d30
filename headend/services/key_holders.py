"""The key holder an installation names in its settings: `key_box`."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from gateways.key_box import Encryptor, file_holder, token_holder
from headend.domain.problems import Problem
from protocols.exchange import KeysAway
from protocols.keys import KeyHolder

FORMS = (
    "file:/path/of/key, pkcs11:/path/of/library.so?token=NAME&pin_file=/path&key=LABEL "
    "or encryptor://host:port"
)


def key_holder_of(setting: str) -> KeyHolder | None:
    """None where nothing is set. A file or an address that is wrong is said at the start.

    Raises Problem("settings-unreadable").
    """
    if not setting:
        return None
    parts = urlsplit(setting)
    try:
        if parts.scheme == "file" and parts.path:
            return file_holder(Path(parts.path))
        if parts.scheme == "encryptor" and parts.hostname and parts.port:
            return Encryptor(parts.hostname, parts.port)
        if parts.scheme == "pkcs11" and parts.path:
            return _token(parts.path, {name: v[-1] for name, v in parse_qs(parts.query).items()})
    except (KeysAway, ValueError, OSError) as error:
        raise _unusable(str(error)) from error
    raise _unusable(f"key_box must be {FORMS}")


def _token(library: str, given: dict[str, str]) -> KeyHolder:
    try:
        token, label, pin_file = given["token"], given["key"], Path(given["pin_file"])
    except KeyError as error:
        raise _unusable(f"key_box lacks {error.args[0]}: {FORMS}") from None
    pin = pin_file.read_text(encoding="utf-8").strip()
    return token_holder(library, token, pin, label)


def _unusable(detail: str) -> Problem:
    return Problem("settings-unreadable", file="the settings", detail=detail)
