"""Register maps as data, and the planner that turns a map into few requests."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from protocols.exchange import Conversation, Refused, Reply, ask
from protocols.modbus import READ_WORDS_MAX, read_registers
from protocols.numbers import Kind
from protocols.reading import Quantity, Values

# One more request costs 13 characters, two silences and the meter's thinking; a useless register
# costs two characters. At 9600 8N1 with 20 ms of thinking they are equal at 17 registers
# (spec field_protocols.md E). Faster lines and DTUs gain from more, slow meters lose nothing.
GAP_WORDS_MAX = 17
# Some firmwares stop before the 125 that Modbus allows (spec field_protocols.md E).
BLOCK_WORDS_MAX = 100
assert GAP_WORDS_MAX < BLOCK_WORDS_MAX <= READ_WORDS_MAX

# Refusals that will be the same tomorrow: no such function, no such address, no such count.
REFUSED_FOR_GOOD = frozenset({1, 2, 3})


@dataclass(frozen=True, slots=True)
class Register:
    """Where one quantity lies. Stored value = raw value x times, in the quantity's own unit."""

    quantity: Quantity
    address: int
    kind: Kind
    times: int = 1
    group: str = ""  # registers of one group are true together: always read in one block

    @property
    def end(self) -> int:
        """The first address after it."""
        return self.address + self.kind.words


@dataclass(frozen=True, slots=True)
class Piece:
    """What must not be torn: one register, or all of a group."""

    registers: tuple[Register, ...]

    @property
    def address(self) -> int:
        return self.registers[0].address

    @property
    def end(self) -> int:
        return max(register.end for register in self.registers)


@dataclass(frozen=True, slots=True)
class Block:
    """One request's worth of registers."""

    pieces: tuple[Piece, ...]

    @property
    def address(self) -> int:
        return self.pieces[0].address

    @property
    def count(self) -> int:
        return max(piece.end for piece in self.pieces) - self.address

    def decode(self, payload: bytes) -> Values:
        registers = [register for piece in self.pieces for register in piece.registers]
        return decode_registers(registers, payload, self.address)


def decode_registers(registers: Iterable[Register], payload: bytes, address: int) -> Values:
    """The available values of a payload that begins at `address`; the others are left out."""
    found: Values = {}
    for register in registers:
        start = 2 * (register.address - address)
        raw = register.kind.decode(payload[start : start + 2 * register.kind.words])
        if raw is not None:
            found[register.quantity] = raw * register.times
    return found


@dataclass(slots=True)
class MapMemory:
    """What one meter has refused. Kept by its driver, so that each refusal is paid for once."""

    holes: set[int] = field(default_factory=set)  # addresses never to be bridged again
    refused: set[int] = field(default_factory=set)  # first addresses of pieces it does not have

    def split(self, block: Block) -> Sequence[Block]:
        """The parts to try instead of a refused block; a piece that stood alone is given up."""
        if len(block.pieces) == 1:
            self.refused.add(block.address)
            self.holes.update(range(block.address, block.address + block.count))
            return ()
        at, gap = _widest_gap(block)
        if gap:  # a bridged register is the likely culprit
            self.holes.update(range(block.pieces[at].address - gap, block.pieces[at].address))
        else:
            at = len(block.pieces) // 2
        return Block(block.pieces[:at]), Block(block.pieces[at:])


def _widest_gap(block: Block) -> tuple[int, int]:
    """Index of the piece behind the widest gap, and that gap in words."""
    gaps = [
        (max(0, later.address - earlier.end), at)
        for at, (earlier, later) in enumerate(
            zip(block.pieces, block.pieces[1:], strict=False), start=1
        )
    ]
    gap, at = max(gaps)
    return at, gap


def plan_blocks(
    registers: Iterable[Register],
    *,
    memory: MapMemory | None = None,
    gap_words_max: int = GAP_WORDS_MAX,
    block_words_max: int = BLOCK_WORDS_MAX,
) -> list[Block]:
    """Merge neighbours while a useless register is cheaper than one more request.

    32-bit values and groups stay whole; known holes are not bridged; what the meter does not have
    is not asked for again.
    """
    memory = memory or MapMemory()
    plans: list[list[Piece]] = []
    for piece in _pieces(registers):
        if piece.address in memory.refused:
            continue
        assert piece.end - piece.address <= block_words_max, "a group must fit one request"
        if plans:
            first, end = plans[-1][0].address, max(p.end for p in plans[-1])
            gap = range(end, piece.address)
            if (
                len(gap) <= gap_words_max
                and piece.end - first <= block_words_max
                and memory.holes.isdisjoint(gap)
            ):
                plans[-1].append(piece)
                continue
        plans.append([piece])
    return [Block(tuple(pieces)) for pieces in plans]


def _pieces(registers: Iterable[Register]) -> list[Piece]:
    groups: dict[str | int, list[Register]] = {}
    for register in sorted(registers, key=lambda r: r.address):
        groups.setdefault(register.group or register.address, []).append(register)
    return sorted((Piece(tuple(rs)) for rs in groups.values()), key=lambda piece: piece.address)


def read_map(
    unit: int,
    registers: Iterable[Register],
    memory: MapMemory,
    *,
    gap_words_max: int = GAP_WORDS_MAX,
    block_words_max: int = BLOCK_WORDS_MAX,
) -> Conversation[Values]:
    """Read registers in few requests; those the meter does not have are left out and remembered.

    Raises Refused when the meter says no for another reason than a missing address.
    """
    values: Values = {}
    blocks = plan_blocks(
        registers, memory=memory, gap_words_max=gap_words_max, block_words_max=block_words_max
    )
    while blocks:
        block = blocks.pop(0)
        request = read_registers(unit, block.address, block.count)
        answer = yield from ask(request)
        if isinstance(answer, Reply):
            values |= block.decode(answer.payload)
        elif answer.code in REFUSED_FOR_GOOD:
            blocks[:0] = memory.split(block)
        else:
            raise Refused(request.label, answer.code)
    return values
