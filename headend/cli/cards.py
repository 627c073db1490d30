"""What `headend card …` does: carries commands between the head-end and a reader here."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Generator
from typing import Any
from uuid import UUID, uuid4

from rich.table import Table

from gateways.card_reader import CardUnsettled, NoReader, PcscReader, readers
from headend.cli.client import ANSWER_S_MAX, Client, approver_headers
from headend.cli.console import out, print_json, say, yuan
from headend.cli.orders import fen_of
from headend.domain.problems import Problem, language_of_terminal
from headend.settings import Settings
from protocols.card_apdu import Apdu, CardAnswer, CardError, CardGone
from protocols.exchange import Effect
from protocols.key_call import KeyCall, KeyResult

_WITH_CREDIT = ("opening", "purchase", "make_up", "preset")


def list_readers() -> None:
    """`headend card readers`"""
    try:
        found = readers()
    except NoReader as error:
        raise Problem("no-reader", detail=error) from error
    for name in found:
        out.print(name, markup=False)


def do(
    settings: Settings,
    wish: dict[str, Any],
    *,
    amount: str | None,
    alarms: str | None,
    key: str | None,
    reader: str | None,
    as_json: bool,
) -> None:
    """`headend card do ACTION METER`"""
    if amount is not None:
        wish["amount_fen"] = fen_of(amount)
    elif wish["action"] in _WITH_CREDIT:
        raise Problem("amount-out-of-range", detail="say how many yuan")
    if alarms is not None:
        first, _, second = alarms.partition(",")
        wish |= {"alarm_1_fen": fen_of(first), "alarm_2_fen": fen_of(second or "0")}
    try:
        session = UUID(key) if key else uuid4()
    except ValueError:
        raise Problem("bad-request", detail=f"{key} is not a UUID") from None
    done = asyncio.run(_carried(Client(settings), wish, session, reader))
    if as_json:
        print_json(done)
        return
    for name, value in done.items():
        if value is not None:
            shown = yuan(value) if name.endswith("_fen") else value
            out.print(f"{name:15}{shown}", markup=False, soft_wrap=True)


async def _carried(
    client: Client, wish: dict[str, Any], session: UUID, reader: str | None
) -> dict[str, Any]:
    return await _at_reader(reader, _relay(client, wish, session))


async def _at_reader(
    reader: str | None,
    conversation: Generator[Apdu | KeyCall, CardAnswer | KeyResult, dict[str, Any]],
) -> dict[str, Any]:
    """Carry it to the card that lies there. Raises Problem."""
    try:
        name = reader or next(iter(readers()), None)
        if name is None:
            raise NoReader("no reader is plugged in")
        # Between two commands of the card the head-end works.
        desk = PcscReader(name, answer_s_max=ANSWER_S_MAX)
        try:
            return await desk.converse(conversation, _no_keys)
        finally:
            await desk.close()
    except CardUnsettled as error:
        raise Problem("card-unsettled") from error
    except CardGone as error:
        raise Problem("card-gone") from error
    except CardError as error:
        raise Problem("no-reader", detail=error) from error


def serve_desk(settings: Settings, reader: str | None) -> None:
    """`headend card desk`"""
    asyncio.run(_served(Client(settings), reader))


async def _served(client: Client, reader: str | None) -> None:
    out.print(say("读卡器已就绪，等待网页操作。", "The reader waits for work from the browser."))
    while True:
        step = await asyncio.to_thread(client.ask, "GET", "/api/v1/cards/desk")
        if step["session"] is None:
            continue
        try:
            await _at_reader(reader, _carry(client, step, UUID(step["session"])))
        except Problem as problem:  # the page says it too; the desk waits for the next card
            out.print(problem.text(language_of_terminal()), markup=False)
            with contextlib.suppress(Problem):
                gone = {"gone": True}
                path = f"/api/v1/cards/sessions/{step['session']}"
                await asyncio.to_thread(client.send, "POST", path, gone)


def report_loss(settings: Settings, meter: str, reason: str) -> None:
    """`headend card lost METER`"""
    body = {"meter": meter, "reason": reason}
    row = Client(settings).send("POST", "/api/v1/cards/lost", body)
    out.print(say(f"卡 {row['serial']} 已挂失", f"card {row['serial']} is reported lost"))


def _relay(
    client: Client, wish: dict[str, Any], session: UUID
) -> Generator[Apdu | KeyCall, CardAnswer | KeyResult, dict[str, Any]]:
    """The head-end's commands to the card, its answers back. Runs in the reader's thread."""
    headers = {"idempotency-key": str(session)} | approver_headers()
    step = client.send("POST", "/api/v1/cards/sessions", wish, headers=headers)
    return (yield from _carry(client, step, session))


def _carry(
    client: Client, step: dict[str, Any], session: UUID
) -> Generator[Apdu | KeyCall, CardAnswer | KeyResult, dict[str, Any]]:
    while "apdu" in step:
        said: dict[str, Any]
        try:
            # What a command does is the head-end's to judge; it is told when the card went.
            answer = yield Apdu(step["label"], bytes.fromhex(step["apdu"]), Effect.READ)
        except CardGone:
            said = {"gone": True}
        else:
            assert isinstance(answer, CardAnswer)
            said = {"answer": (answer.data + answer.status.to_bytes(2, "big")).hex()}
        step = client.send("POST", f"/api/v1/cards/sessions/{session}", said)
    done: dict[str, Any] = step["done"]
    return done


async def _no_keys(call: KeyCall) -> KeyResult:
    raise AssertionError(f"{call.operation.value}: no key is asked for at a desk")


def out_list(settings: Settings, meter: str | None, *, as_json: bool) -> None:
    """`headend card out`"""
    rows = Client(settings).ask("GET", "/api/v1/cards/out", meter=meter)
    if as_json:
        for row in rows:
            print_json(row)
        return
    table = Table(box=None)
    for title in (
        say("编号", "number"),
        say("种类", "kind"),
        say("状态", "state"),
        say("次数", "count"),
        say("金额", "yuan"),
        say("卡号", "card"),
        say("发出", "since"),
    ):
        table.add_column(title)
    for row in rows:
        table.add_row(
            str(row["number"]),
            row["kind"],
            row["state"],
            str(row["purchase_count"] or "–"),
            yuan(row["amount_fen"]),
            row["serial"],
            row["begun_at"][:16],
        )
    out.print(table)


def paper(settings: Settings, what: str, meter: str, reason: str) -> None:
    """`headend card move METER`, `headend card burn METER`"""
    body = {"meter": meter, "reason": reason}
    row = Client(settings).send("POST", f"/api/v1/cards/{what}", body, headers=approver_headers())
    out.print(say(f"指令 {row['command_id']}", f"command {row['command_id']}"))
