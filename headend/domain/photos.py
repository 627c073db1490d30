"""Which bytes are a photograph. The content decides, never the name or what a browser says."""

from __future__ import annotations

from typing import Final

# Said to people as 5 MB.
PHOTO_BYTES_MAX: Final = 5 * 1024 * 1024


def media_type_of(content: bytes) -> str | None:
    """The type of a JPEG, PNG or WebP picture; None for anything else."""
    if content.startswith(b"\xff\xd8\xff"):
        return "image/jpeg"
    if content.startswith(b"\x89PNG\r\n\x1a\n"):
        return "image/png"
    if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        return "image/webp"
    return None


def refused(content: bytes) -> str:
    """Why these bytes are not kept as a photograph; empty: they are."""
    if not content:
        return "it is empty"
    if len(content) > PHOTO_BYTES_MAX:
        return "it has more than 5 MB"
    if media_type_of(content) is None:
        return "it is no JPEG, PNG or WebP picture"
    return ""
