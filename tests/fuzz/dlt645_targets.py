"""Fuzz targets of DL/T 645: the reader in a stream, and whole drivers, 1997's and the prepaid one
among them, against a meter that says anything."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from protocols import dlt645 as wire
from protocols.catalog import load_meter_types
from protocols.exchange import (
    Conversation,
    Effect,
    Intent,
    KeysAway,
    KeyWork,
    ProtocolError,
    Refusal,
    Reply,
    Request,
    Silence,
)
from protocols.explain import explain
from protocols.meter_type import Address, MeterType, TopUp
from protocols.reading import Quantity

METER = "230615000007"
AT = Address(number=METER)
ITEM = 0x00010000
PIECE_BYTES_MAX = 32
ANSWER_BYTES_MAX = 48  # one frame of the meter's, chosen by the first byte of what is left
TYPES = tuple(kind for name, kind in load_meter_types().items() if name.startswith("dlt645"))
assert len({kind.new_driver for kind in TYPES}) > 1


class Keys:
    """A key holder whose codes are as good as any: the chip says what it likes to them."""

    def authenticate(self, meter_number: str) -> bytes:
        return bytes(16)

    def seal(self, meter_number: str, challenge: bytes, fields: tuple[bytes, ...]) -> bytes:
        return bytes(8)

    def open(self, meter_number: str, challenge: bytes, field: bytes, mac: bytes) -> bytes:
        if mac and mac[0] & 1:
            raise KeysAway("another key")
        return field


def dlt645(data: bytes) -> None:
    """In pieces, as it is and sealed: at most one answer, only one that was there, and no more kept
    than a frame; each frame has one line of meaning."""
    asked = wire.di_bytes(ITEM)
    sealed = wire.encode(wire.Frame(METER, wire.READ | wire.FROM_METER, asked + data[1:200]), b"")
    piece = 1 + (data[0] if data else 0) % PIECE_BYTES_MAX
    for said in (data[1:], data[1:9] + sealed + data[9:]):
        reader = wire.Dlt645Reader(METER, wire.READ, asked)
        answers = []
        for at in range(0, len(said), piece):
            reader.receive_data(said[at : at + piece])
            if (answer := reader.next_event()) is not None:
                answers.append(answer)
        assert len(answers) <= 1
        for answer in answers:
            assert not isinstance(answer, Reply) or len(answer.payload) <= 1 + 0xFF
        assert len(reader._buffer) <= wire.HEAD_BYTES + 0xFF + 2
        assert explain(said)
    assert explain(sealed)


def dlt645_driver(data: bytes) -> None:
    """A meter that answers each request with the next bytes: integers, an error of the protocol, or
    a top-up that is written at most once and only after its intent."""
    if not data:
        return
    meter_type = TYPES[data[0] % len(TYPES)]
    for talk in (_look, _frozen, _recharges, _top_up):
        said = _converse(talk(meter_type), data[1:])
        if isinstance(said, dict):
            assert said.keys() <= meter_type.quantities
            assert all(type(value) is int for value in said.values())


def _new(meter_type: MeterType) -> Any:
    options = {"key_holder": Keys()} if meter_type.needs_key_holder else {}
    return meter_type.new_driver(options)


def _look(meter_type: MeterType) -> Conversation[Any]:
    talk: Conversation[Any] = _new(meter_type).read(AT, frozenset(Quantity))
    return talk


def _frozen(meter_type: MeterType) -> Conversation[Any]:
    talk: Conversation[Any] = _new(meter_type).frozen(AT)
    return talk


def _recharges(meter_type: MeterType) -> Conversation[Any]:
    talk: Conversation[Any] = _new(meter_type).recharges(AT)
    return talk


def _top_up(meter_type: MeterType) -> Conversation[Any]:
    talk: Conversation[Any] = _new(meter_type).top_up(AT, TopUp(purchase_count=1, amount_fen=5_000))
    return talk


def _converse(talk: Conversation[Any], rest: bytes) -> Any:
    intended, writes = False, 0
    try:
        step = next(talk)
        while True:
            if isinstance(step, Intent):
                assert not intended
                intended, step = True, talk.send(None)
                continue
            if isinstance(step, KeyWork):
                step = _key_work(talk, step.work)
                continue
            assert isinstance(step, Request)
            writes += step.effect is not Effect.READ
            assert intended or step.effect is Effect.READ
            assert writes <= 1
            length = 1 + rest[0] % ANSWER_BYTES_MAX if rest else 0
            said, rest = rest[1 : 1 + length], rest[1 + length :]
            if not said:
                step = talk.throw(Silence(step.label))
            elif said[0] & 1:
                step = talk.send(Refusal(int.from_bytes(said[:2], "big")))
            else:
                step = talk.send(Reply(said))
    except ProtocolError:
        return None
    except StopIteration as stop:
        return stop.value


def _key_work(talk: Conversation[Any], work: Callable[[], bytes]) -> Any:
    try:
        return talk.send(Reply(work()))
    except ProtocolError as error:
        return talk.throw(error)
