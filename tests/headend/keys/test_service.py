"""The key service over its real socket: who may, how fast, how much, and nothing without a line."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateways.key_client import KeyBoxClient, KeyRefused, KeysAway
from headend.keys import primitives
from headend.keys.box import KeyBox
from headend.keys.limits import BadRules, callers_of
from headend.keys.log import KeyLog, LogError, verify
from headend.keys.primitives import Algorithm
from headend.keys.service import KeyService, serving
from protocols import key_call
from protocols.card_image import BODY_BYTES, CardKind, CardRecord, body_of
from protocols.key_call import (
    BadMessage,
    Denial,
    KeyCall,
    KeyDenied,
    KeyResult,
    Operation,
    Purpose,
)
from tests.headend.keys.boxes import AREA, CARD, KEYS, NOW, SCOPE, caller, record, vault, with_keys

MAC, CHECK, ENCRYPT, KCV = Operation.MAC, Operation.CHECK, Operation.ENCRYPT, Operation.KCV
ALLOWED = caller(
    (MAC, Purpose.RECHARGE),
    (CHECK, Purpose.WRITE_BACK),
    (KCV, Purpose.RECHARGE),
    (ENCRYPT, Purpose.CARD_EXTERNAL),
    (ENCRYPT, Purpose.RECHARGE),
)


class Now:
    """A clock that stands where it is put."""

    def __init__(self, at: datetime = NOW) -> None:
        self.at = at

    def now(self) -> datetime:
        return self.at


def call(operation: Operation, purpose: Purpose, data: bytes = b"data", **more: object) -> KeyCall:
    path = () if operation is KCV else (AREA, CARD)
    data = b"" if operation is KCV else data
    return replace(
        KeyCall(operation=operation, purpose=purpose, scope=SCOPE, path=path, data=data),
        **more,  # type: ignore[arg-type]
    )


def purchase(fen: int, count: int = 1) -> bytes:
    return body_of(
        CardRecord(
            kind=CardKind.PURCHASE,
            key_version=1,
            meter_number="000000000101",
            customer_number="000000000001",
            serial=CARD,
            issue_number=1,
            amount_fen=fen,
            purchase_count=count,
        )
    )


@pytest.fixture
def box(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[KeyBox]:
    with vault(tmp_path, monkeypatch) as made:
        yield with_keys(
            made,
            record(Purpose.RECHARGE),
            record(Purpose.WRITE_BACK, Algorithm.TDES2),
            record(Purpose.CARD_EXTERNAL, Algorithm.TDES2),
        )


@pytest.fixture
def service(box: KeyBox, tmp_path: Path) -> Iterator[KeyService]:
    log = KeyLog(tmp_path / "log")
    yield KeyService(box, log, {4242: ALLOWED}, Now(), monotonic_s=lambda: 0.0)
    log.close()


def denial(answer: KeyResult | KeyDenied) -> Denial | None:
    return answer.denial if isinstance(answer, KeyDenied) else None


def test_what_is_allowed_is_done(service: KeyService) -> None:
    leaf = primitives.diversify(Algorithm.AES128, KEYS[Algorithm.AES128], (AREA, CARD))
    data = purchase(5000)
    told = service.do(4242, call(MAC, Purpose.RECHARGE, data))
    assert told == KeyResult(1, primitives.mac(Algorithm.AES128, leaf, b"", data))
    assert service.do(4242, call(KCV, Purpose.RECHARGE)) == KeyResult(
        1, record(Purpose.RECHARGE).kcv
    )
    back = primitives.diversify(Algorithm.TDES2, KEYS[Algorithm.TDES2], (AREA, CARD))
    mac = primitives.retail_mac(back, b"", b"data")
    for given_mac, right in ((mac, b"\1"), (mac[:4], b"\1"), (b"\0" * 8, b"\0")):
        checked = service.do(4242, call(CHECK, Purpose.WRITE_BACK, mac=given_mac))
        assert checked == KeyResult(1, right)


@pytest.mark.parametrize(
    ("uid", "wish", "told"),
    [
        (1, call(MAC, Purpose.RECHARGE), Denial.NOT_ALLOWED),
        (4242, call(MAC, Purpose.WRITE_BACK), Denial.NOT_ALLOWED),
        (4242, call(MAC, Purpose.CONTROL), Denial.NOT_ALLOWED),
        (4242, call(ENCRYPT, Purpose.RECHARGE, bytes(16)), Denial.NOT_ALLOWED),
        (4242, call(MAC, Purpose.RECHARGE, scope="elsewhere"), Denial.NO_SUCH_KEY),
        (4242, call(MAC, Purpose.RECHARGE, version=7), Denial.NO_SUCH_KEY),
        (4242, call(MAC, Purpose.RECHARGE, b"no amount"), Denial.BAD_CALL),
        (4242, call(ENCRYPT, Purpose.CARD_EXTERNAL, b"odd"), Denial.FAILED),
    ],
)
def test_what_is_not_allowed_is_denied_and_logged(
    service: KeyService, tmp_path: Path, uid: int, wish: KeyCall, told: Denial
) -> None:
    assert denial(service.do(uid, wish)) is told
    lines = (tmp_path / "log").read_text().splitlines()
    assert len(lines) == 1
    assert told is Denial.FAILED or json.loads(lines[0])["entry"]["outcome"] == told.value


def test_a_shorter_way_would_give_a_key_and_is_no_call() -> None:
    """E(root, area) is the area's key; E(area, card) is the card's."""
    for path in ((), (AREA,), (AREA, CARD, CARD), (AREA, b"short")):
        body = key_call.encode_call(call(ENCRYPT, Purpose.CARD_EXTERNAL, bytes(8), path=path))
        with pytest.raises(BadMessage):
            key_call.decode_call(body)
    assert not any("key" in operation.value for operation in Operation)


def test_versions_issue_and_accept(box: KeyBox, service: KeyService) -> None:
    old = record(Purpose.WRITE_BACK, Algorithm.TDES2)
    box.change(replace(old, stop_issue=NOW))
    check = call(CHECK, Purpose.WRITE_BACK, mac=bytes(8))
    assert denial(service.do(4242, replace(check, version=1))) is None, "still accepts"
    box.change(replace(old, stop_issue=NOW, stop_accept=NOW))
    assert denial(service.do(4242, replace(check, version=1))) is Denial.KEY_STOPPED
    recharge = record(Purpose.RECHARGE)
    box.change(replace(recharge, stop_issue=NOW))
    wish = call(MAC, Purpose.RECHARGE, purchase(1))
    assert denial(service.do(4242, wish)) is Denial.KEY_STOPPED
    with_keys(box, record(Purpose.RECHARGE, version=2))
    told = service.do(4242, wish)
    assert isinstance(told, KeyResult)
    assert told.version == 2
    assert denial(service.do(4242, replace(wish, version=1))) is Denial.KEY_STOPPED


def test_the_daily_limit_reads_the_amount_itself_and_outlives_a_restart(
    box: KeyBox, tmp_path: Path
) -> None:
    clock, path = Now(), tmp_path / "log"

    def started() -> tuple[KeyLog, KeyService]:
        log = KeyLog(path)
        return log, KeyService(box, log, {4242: ALLOWED}, clock, monotonic_s=lambda: 0.0)

    log, service = started()
    first, second = purchase(60_000, 1), purchase(40_001, 2)
    assert denial(service.do(4242, call(MAC, Purpose.RECHARGE, first))) is None
    assert denial(service.do(4242, call(MAC, Purpose.RECHARGE, first))) is None, "once more"
    assert denial(service.do(4242, call(MAC, Purpose.RECHARGE, second))) is Denial.CREDIT_LIMIT
    log.close()
    log, service = started()
    assert denial(service.do(4242, call(MAC, Purpose.RECHARGE, second))) is Denial.CREDIT_LIMIT
    assert denial(service.do(4242, call(MAC, Purpose.RECHARGE, purchase(40_000, 2)))) is None
    clock.at += timedelta(days=1)
    assert denial(service.do(4242, call(MAC, Purpose.RECHARGE, second))) is None, "a new day"
    log.close()


def test_a_caller_that_floods_waits(box: KeyBox, tmp_path: Path) -> None:
    slow = caller((KCV, Purpose.RECHARGE), calls_per_minute=2)
    now_s = 0.0
    log = KeyLog(tmp_path / "log")
    service = KeyService(box, log, {4242: slow}, Now(), monotonic_s=lambda: now_s)
    told = [denial(service.do(4242, call(KCV, Purpose.RECHARGE))) for _ in range(3)]
    assert told == [None, None, Denial.TOO_FAST]
    now_s = 30.0
    assert denial(service.do(4242, call(KCV, Purpose.RECHARGE))) is None
    assert denial(service.do(4242, call(KCV, Purpose.RECHARGE))) is Denial.TOO_FAST
    log.close()


def test_nothing_is_done_without_its_line(
    service: KeyService, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    told = service.do(4242, call(MAC, Purpose.RECHARGE, purchase(1)))
    assert denial(told) is Denial.LOG_FAILED
    monkeypatch.undo()
    assert denial(service.do(4242, call(MAC, Purpose.RECHARGE, purchase(1)))) is None


@pytest.mark.parametrize("how", ["changed", "deleted", "moved", "garbage"])
def test_a_changed_log_is_found_and_stops_the_service(tmp_path: Path, how: str) -> None:
    path = tmp_path / "log"
    log = KeyLog(path)
    for number in range(4):
        log.write({"operation": "kcv", "data": number})
    log.close()
    assert verify(path).fault is None
    lines = path.read_bytes().splitlines(keepends=True)
    if how == "changed":
        lines[1] = lines[1].replace(b'"data": 1', b'"data": 9')
    elif how == "deleted":
        del lines[1]
    elif how == "moved":
        lines[1], lines[2] = lines[2], lines[1]
    else:
        lines[1] = b"\xff\n"
    path.write_bytes(b"".join(lines))
    report = verify(path)
    assert report.lines == 1
    assert report.fault is not None
    assert "line 2" in report.fault
    with pytest.raises(LogError, match="line 2"):
        KeyLog(path)


def test_a_log_has_one_writer(tmp_path: Path) -> None:
    log = KeyLog(tmp_path / "log")
    with pytest.raises(LogError, match="in use"):
        KeyLog(tmp_path / "log")
    log.close()


@asynccontextmanager
async def over_a_socket(box: KeyBox, folder: Path) -> AsyncIterator[Path]:
    mine = replace(ALLOWED, uid=os.getuid())
    log = KeyLog(folder / "log")
    try:
        async with serving(KeyService(box, log, {mine.uid: mine}, Now()), folder / "keys.sock"):
            yield folder / "keys.sock"
    finally:
        log.close()


async def test_a_client_asks_over_the_socket(box: KeyBox, tmp_path: Path) -> None:
    async with over_a_socket(box, tmp_path) as path:
        client = KeyBoxClient(path)
        results = await asyncio.gather(
            *(client.ask(call(MAC, Purpose.RECHARGE, purchase(1, n))) for n in range(1, 20))
        )
        assert len({result.value for result in results}) == 19
        with pytest.raises(KeyRefused, match="not-allowed"):
            await client.ask(call(MAC, Purpose.CONTROL))
        assert (await client.ask(call(KCV, Purpose.RECHARGE))).version == 1
    with pytest.raises(KeysAway):
        await client.ask(call(KCV, Purpose.RECHARGE))
    await client.close()
    async with over_a_socket(box, tmp_path):
        assert (await client.ask(call(KCV, Purpose.RECHARGE))).version == 1, "it comes back"
        await client.close()


async def test_whoever_speaks_something_else_is_hung_up_on(box: KeyBox, tmp_path: Path) -> None:
    async with over_a_socket(box, tmp_path) as path:
        for noise in (b"GET / HTTP/1.1\r\n\r\n", b"\xff\xff\xff\xff", b"\0\0\0\0"):
            reader, writer = await asyncio.open_unix_connection(path)
            writer.write(noise)
            assert await reader.read() == b""
            writer.close()
        reader, writer = await asyncio.open_unix_connection(path)
        writer.write(key_call.frame(b"[]"))
        head = await reader.readexactly(4)
        told = key_call.decode_answer(await reader.readexactly(key_call.body_bytes(head)))
        assert denial(told) is Denial.BAD_CALL
        writer.close()


@given(st.binary(max_size=300))
def test_any_bytes_are_a_call_or_a_bad_message(body: bytes) -> None:
    for decode in (key_call.decode_call, key_call.decode_answer):
        with suppress(BadMessage):
            decode(body)


@given(
    st.sampled_from([MAC, CHECK, ENCRYPT]),
    st.sampled_from(Purpose),
    st.binary(min_size=1, max_size=200),
)
def test_calls_and_answers_go_round(operation: Operation, purpose: Purpose, data: bytes) -> None:
    asked = call(operation, purpose, data, mac=bytes(8) if operation is CHECK else b"")
    assert key_call.decode_call(key_call.encode_call(asked)) == asked
    for answer in (KeyResult(3, data), KeyDenied(Denial.TOO_FAST, "x")):
        assert key_call.decode_answer(key_call.encode_answer(answer)) == answer
    assert data.hex() not in repr(asked) or len(data) < 3


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("x", "not TOML"),
        ("a = 1", r"\[\[caller\]\]"),
        ('[[caller]]\nname = "a"', "nothing else"),
        ('[[caller]]\nname = "a"\nuid = -1\ncalls_per_minute = 1\nallow = []', "uid"),
        ('[[caller]]\nname = "a"\nuid = 1\ncalls_per_minute = 0\nallow = []', "calls_per_minute"),
        ('[[caller]]\nname = "a"\nuid = 1\ncalls_per_minute = 1\nallow = ["get_key x"]', "get_key"),
    ],
)
def test_a_wrong_file_of_callers_says_where(text: str, told: str) -> None:
    with pytest.raises(BadRules, match=told):
        callers_of(text)


def test_a_body_is_what_the_service_thinks_it_is() -> None:
    assert len(purchase(5000)) == BODY_BYTES
    credit = record(Purpose.RECHARGE).credit
    assert credit is not None
    assert credit.fen(purchase(5000)) == 5000
