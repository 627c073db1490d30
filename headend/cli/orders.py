"""What a cashier or manager types: sell, cut, restore, look, cancel, decide."""

from __future__ import annotations

import re
import time
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

from headend.cli.client import Client, approver_headers
from headend.cli.console import out, print_json, say, yuan
from headend.domain.problems import Problem
from headend.settings import Settings

# How long the CLI follows an order it gave; the order itself goes on.
FOLLOW_S_MAX = 120
LOOK_S = 0.5
FEN_PER_YUAN = 100
# As people write amounts. What else Decimal takes (1e9, 1_000, sNaN) is a slip of the keys, and
# beyond 28 digits it would round.
_YUAN = re.compile(r"[+-]?\d{1,12}(\.\d{1,12})?")
_ENDED = ("confirmed", "refused", "expired", "cancelled", "escalated")
_STAGES = {
    "paid": ("已付款", "paid"),
    "sent": ("已发送", "sent"),
    "in_meter": ("已到表", "in meter"),
    "light_on": ("已复电", "light on"),
}


def fen_of(text: str) -> int:
    """Yuan as a person writes them ("50", "50.5", "50.05") in fen. Raises Problem."""
    if not _YUAN.fullmatch(text.strip()):
        wrong = say(f"{text} 不是以元计的金额", f"{text} is not an amount in yuan")
        raise Problem("amount-out-of-range", detail=wrong)
    fen = Decimal(text.strip()) * FEN_PER_YUAN
    if fen != fen.to_integral_value():
        wrong = say(f"{text} 元不是整分", f"{text} yuan is not a whole number of fen")
        raise Problem("amount-out-of-range", detail=wrong)
    return int(fen)


def topup(
    settings: Settings, meter: str, amount: str, key: str | None, *, wait: bool, as_json: bool
) -> None:
    """`headend topup METER YUAN`"""
    body = {"meter": meter, "amount_fen": fen_of(amount)}
    _order(settings, "/api/v1/topups", body, key, wait=wait, as_json=as_json)


def switch(
    settings: Settings,
    action: str,
    meter: str,
    reason: str,
    key: str | None,
    *,
    wait: bool,
    as_json: bool,
) -> None:
    """`headend cut METER`, `headend restore METER`"""
    body = {"meter": meter, "reason": reason}
    _order(settings, f"/api/v1/{action}s", body, key, wait=wait, as_json=as_json)


def _order(
    settings: Settings,
    path: str,
    body: dict[str, Any],
    key: str | None,
    *,
    wait: bool,
    as_json: bool,
) -> None:
    command_id = _uuid(key) if key else uuid4()
    client = Client(settings)
    row = client.send("POST", path, body, headers={"idempotency-key": str(command_id)})
    if not as_json:
        out.print(say(f"指令 {command_id}", f"command {command_id}"))
    if wait:
        row = _follow(client, command_id, quiet=as_json)
    if as_json:
        print_json(row)
    if wait and row["state"] != "confirmed":
        raise Problem(
            "not-confirmed", command=command_id, state=row["state"], detail=row["outcome"]
        )


def _follow(client: Client, command_id: UUID, *, quiet: bool) -> dict[str, Any]:
    """Print each stage as it comes, until the command has ended, and the restore that a payment in
    the dark brings with it, or patience has."""
    told: set[int] = set()
    until_s = time.monotonic() + FOLLOW_S_MAX
    while True:
        row: dict[str, Any] = client.ask("GET", f"/api/v1/commands/{command_id}")
        for event in row["events"]:
            if event["event_id"] not in told and not quiet:
                _tell(event)
            told.add(event["event_id"])
        light_waits = _light_waits(row["events"])
        if row["state"] in _ENDED and not light_waits:
            return row
        if time.monotonic() > until_s:
            if light_waits and not quiet:
                out.print(say("尚未复电，复电继续执行。", "No light yet: the restore goes on."))
            return row
        time.sleep(LOOK_S)


def _light_waits(events: list[dict[str, Any]]) -> bool:
    """Whether a restore that followed has not ended."""
    restores = {event["command_id"]: event["to"] for event in events if event["kind"] == "restore"}
    return any(state not in _ENDED for state in restores.values())


def _tell(event: dict[str, Any]) -> None:
    if event["stage"] in _STAGES:
        chinese, english = _STAGES[event["stage"]]
        text = f"[bold]{say(chinese, english)}[/]"
    else:
        text = event["to"]
    note = f"  {event['note']}" if event["note"] else ""
    out.print(f"{event['at'][11:19]} {text}{note}", soft_wrap=True)


def command(settings: Settings, command_id: str, *, cancel: str | None, as_json: bool) -> None:
    """`headend command ID`"""
    client = Client(settings)
    path = f"/api/v1/commands/{_uuid(command_id)}"
    if cancel is not None:
        client.send("POST", f"{path}/cancel", {"reason": cancel}, headers=approver_headers())
    row = client.ask("GET", path)
    if as_json:
        print_json(row)
        return
    amount = f"  {yuan(row['amount_fen'])} yuan" if row["amount_fen"] is not None else ""
    out.print(f"[bold]{row['kind']}[/] {row['meter']}{amount}  [bold]{row['state']}[/]")
    if row["outcome"]:
        out.print(row["outcome"], soft_wrap=True)
    for event in row["events"]:
        _tell(event)
    for one in row["tries"]:
        out.print(
            say(f"第 {one['attempt_no']} 次", f"try {one['attempt_no']}") + f"  {one['outcome']}"
        )
        out.print(f"  before {one['before']}", style="dim", soft_wrap=True)
        out.print(f"  after  {one['after']}", style="dim", soft_wrap=True)
        for frame in one["frames"]:
            out.print(f"  {frame}", style="dim", soft_wrap=True)


def resolve(
    settings: Settings, command_id: str, reason: str, *, carried_out: bool, as_json: bool
) -> None:
    """`headend resolve ID --done|--not-done`"""
    path = f"/api/v1/commands/{_uuid(command_id)}/decide"
    body = {"carried_out": carried_out, "reason": reason}
    row = Client(settings).send("POST", path, body, headers=approver_headers())
    if as_json:
        print_json(row)
    else:
        out.print(f"{row['kind']} {row['meter']}: {row['state']}")


def _uuid(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError as error:
        raise Problem("bad-request", detail=f"{text} is not a UUID") from error
