from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.exchange import Refused
from protocols.numbers import Kind
from protocols.reading import Quantity as Q
from protocols.registers import MapMemory, Register, plan_blocks, read_map
from tests.protocols.slave import Slave, play, sealed


def reg(quantity: Q, address: int, kind: Kind = Kind.U16, *, group: str = "") -> Register:
    return Register(quantity, address, kind, group=group)


V1, V2, V3 = reg(Q.VOLTAGE_L1, 10), reg(Q.VOLTAGE_L2, 11), reg(Q.VOLTAGE_L3, 40)
ENERGY = reg(Q.ENERGY, 12, Kind.U32)


def spans(*registers: Register, memory: MapMemory | None = None, **limits: int) -> list[object]:
    return [(b.address, b.count) for b in plan_blocks(registers, memory=memory, **limits)]


def test_neighbours_share_a_request_while_the_gap_is_cheap() -> None:
    assert spans(ENERGY, V1, V2) == [(10, 4)]
    assert spans(V1, V3, gap_words_max=29) == [(10, 31)]
    assert spans(V1, V3, gap_words_max=28) == [(10, 1), (40, 1)]


def test_a_block_ends_at_its_limit_without_tearing_a_value() -> None:
    assert spans(V1, V2, ENERGY, block_words_max=3) == [(10, 2), (12, 2)]


def test_a_group_stays_whole_even_around_others() -> None:
    credit = reg(Q.REMAINING_CREDIT, 9, Kind.I32, group="purchase")
    count = reg(Q.PURCHASE_COUNT, 16, group="purchase")
    [block] = plan_blocks([credit, V2, ENERGY, count], gap_words_max=0)
    assert (block.address, block.count) == (9, 8)


def test_known_holes_are_not_bridged() -> None:
    memory = MapMemory(holes={20})
    assert spans(V1, V3, memory=memory, gap_words_max=50) == [(10, 1), (40, 1)]


def test_a_refused_gap_is_split_once_and_remembered() -> None:
    slave = Slave({10: 2300, 40: 2310})
    memory = MapMemory()
    registers = [V1, V3]
    values = play(read_map(1, registers, memory, gap_words_max=50), slave)
    assert values == {Q.VOLTAGE_L1: 2300, Q.VOLTAGE_L3: 2310}
    assert slave.asked == [(10, 31), (10, 1), (40, 1)]
    slave.asked.clear()
    assert play(read_map(1, registers, memory, gap_words_max=50), slave) == values
    assert slave.asked == [(10, 1), (40, 1)]


def test_a_register_the_meter_lacks_is_left_out_and_not_asked_for_again() -> None:
    slave = Slave({10: 2300, 12: 0, 13: 5})
    memory = MapMemory()
    for asked_max in (9, 2):
        slave.asked.clear()
        values = play(read_map(1, [V1, V2, ENERGY], memory), slave)
        assert values == {Q.VOLTAGE_L1: 2300, Q.ENERGY: 5}
        assert len(slave.asked) <= asked_max


def test_a_meter_with_short_answers_is_split_until_they_fit() -> None:
    slave = Slave({at: at for at in range(10, 20)}, words_max=2)
    registers = [V1, V2, ENERGY, reg(Q.PT_RATIO, 14), reg(Q.CT_RATIO, 15)]
    values = play(read_map(1, registers, MapMemory()), slave)
    assert values[Q.ENERGY] == (12 << 16) + 13
    assert len(values) == 5


def test_a_busy_meter_is_no_missing_register() -> None:
    memory = MapMemory()
    with pytest.raises(Refused):
        play(read_map(1, [V1], memory), lambda _: sealed(b"\x01\x83\x06"))
    assert memory == MapMemory()


QUANTITIES = sorted(Q, key=lambda q: q.value)


@given(
    st.sets(st.integers(0, 300).map(lambda at: 2 * at), min_size=1, max_size=len(QUANTITIES)),
    st.sets(st.integers(0, 700)),
    st.integers(0, 60),
    st.integers(2, 125),
)
def test_whatever_the_holes_every_present_value_is_read_and_nothing_else(
    addresses: set[int], holes: set[int], gap_words_max: int, block_words_max: int
) -> None:
    registers = [reg(q, at, Kind.U32) for q, at in zip(QUANTITIES, sorted(addresses), strict=False)]
    slave = Slave({at: at for at in range(700) if at not in holes})
    memory = MapMemory()
    present = {
        r.quantity: (r.address << 16) + r.address + 1
        for r in registers
        if not {r.address, r.address + 1} & holes
    }
    limits = {"gap_words_max": gap_words_max, "block_words_max": block_words_max}
    for _ in range(2):
        assert play(read_map(1, registers, memory, **limits), slave) == present
    assert all(count <= block_words_max for _, count in slave.asked)
