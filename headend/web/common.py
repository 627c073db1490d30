"""What every API file needs."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Request
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from headend.services.services import Services


def _services(request: Request) -> Services:
    services = request.app.state.services
    assert isinstance(services, Services)
    return services


Asked = Annotated[Services, Depends(_services)]

# Enough for a story; a book of it would be read by nobody and kept for ever.
WORDS_MAX = 2_000


def _printable(text: str) -> str:
    """What neither a screen nor the database can hold is refused: control characters, halves of
    characters. Raises ValueError."""
    for sign in text:
        if (sign < " " and sign not in "\t\n\r") or "\ud800" <= sign <= "\udfff":
            raise ValueError(f"the character {ord(sign):#06x} is not text")
    return text


#: Text from outside that is stored and shown.
Words = Annotated[str, Field(max_length=WORDS_MAX), AfterValidator(_printable)]
#: Why somebody does something: never empty.
Reason = Annotated[Words, Field(min_length=1)]


class Because(BaseModel):
    """Every decision has its reason, kept for ever."""

    model_config = ConfigDict(extra="forbid")
    reason: Reason
