"""What a device may be called on the MQTT broker, and what it may read and write there.

A device's user name is its registration. It becomes one level of its topics, a word of the broker's
ACL file and of its password file: whatever has a meaning in one of them is refused, or a device
called "+" would be given everybody's topics.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

# The head-end's own user and client id: nobody else is called so.
HEAD_END = "headend"
NAME_CHARACTERS_MAX = 64
_NAME = re.compile(r"[^\s+#/:%$]+")


def name_fault(registration: str) -> str | None:
    """Why this cannot be a device's name on a broker, as one clause; None: it can."""
    if registration == HEAD_END:
        return f"{HEAD_END} is the head-end's own name on the broker"
    if len(registration) > NAME_CHARACTERS_MAX:
        return f"it has more than {NAME_CHARACTERS_MAX} characters"
    if not _NAME.fullmatch(registration) or not registration.isprintable():
        return "it is one level of a topic: no blank, and none of / + # : % $"
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerUser:
    """One user of our own broker."""

    name: str
    #: as in mosquitto's password file; None: it has none, and only a certificate lets it in
    password_hash: str | None
    reads: tuple[str, ...] = ()  # topic filters
    writes: tuple[str, ...] = ()
