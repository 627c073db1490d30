"""A recharge terminal beside a cabinet: it carries the line, takes cards, and sells alone when
nobody answers, under a sealed cap (docs/terminal-protocol.md).

Written from the document, not from the head-end. It keeps a book of what it sold and of what is
still to be told; power may fail at any step of a tap, and the book is what it wakes up with.
"""

from __future__ import annotations

import hmac
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from simulators.card_meter import cmac
from simulators.cards import Pulled, VirtualCard
from simulators.dtu import Dtu, DtuPlan
from simulators.faults import Faults
from simulators.modbus_meter import Bus
from simulators.terminal_speech import (
    ASK_RECHARGES,
    BOUGHT,
    BUY,
    CAP,
    CARD_ANSWER,
    CARD_COMMAND,
    IDENTIFIED,
    ISLAND_SALE,
    ISLAND_TAKEN,
    RECHARGES,
    TAP,
    TerminalSpeech,
    told,
)
from simulators.wire import WireTiming

NOT_SEEN = 0xFFFF_FFFF
BOOK_MAX = 20
HELD_MAX = 3  # cards it remembers the words about
#: what it shows of a card once its money is where it belongs
CARD_LINES = {
    "written_back": "已写回卡 / written on the card",
    "card_unknown": "卡未写完，下次再刷 / taken off too soon: hold it here again any time",
    "not_written": "卡未写回，下次再刷 / not written on the card: hold it here again any time",
}


class PowerCut(Exception):
    """The terminal lost its power in the middle of a tap."""


@dataclass
class TerminalCard:
    """What lies on a card, as the terminal reads it; and what was written back, as it was told."""

    serial: str  # 16 hex digits
    meter_number: str
    purchase_count: int
    amount_fen: int
    written_back: dict[str, int] | None = None
    #: what answers the head-end's commands while it is held there; None: it was taken away
    chip: VirtualCard | None = None


@dataclass
class Book:
    """What survives a power cut."""

    sequence: int = 0  # of the last record
    mac: bytes = bytes(16)  # of the last record
    untold: list[dict[str, Any]] = field(default_factory=list)
    cap: dict[str, Any] | None = None
    #: by serial and cap number, and by cap number
    to_card: dict[tuple[str, int], int] = field(default_factory=dict)
    in_all: dict[int, int] = field(default_factory=dict)
    taps: dict[str, dict[str, Any]] = field(default_factory=dict)  # open, by their id
    recharges: list[dict[str, int]] = field(default_factory=list)  # its own last twenty


class RfTerminal(Dtu):
    """The box. Its line is the cabinet's; its screen is a list of lines, the last is shown."""

    def __init__(
        self,
        bus: Bus,
        *,
        name: str,
        secret: bytes,
        host: str,
        port: int,
        now_s: Callable[[], float],
        meters: dict[str, int],
        cap_keys: Mapping[int, bytes] | None = None,
        timing: WireTiming | None = None,
        faults: Faults | None = None,
        seed: int = 0,
        book: Book | None = None,
        reconnect_s: float = 1.0,
    ) -> None:
        """`meters`: unit id by meter number. `cap_keys`: by version, in its own module."""
        self.name = name
        self.secret = secret
        self.book = book or Book()
        self.screen: list[str] = []
        self.shown_recharges: list[dict[str, Any]] = []
        self.clashes: list[dict[str, Any]] = []
        #: cards that are to stay until they are written, by their tap
        self.holding: dict[str, TerminalCard] = {}
        self.clock_wrong_s = 0
        self.cut_power_after = ""  # "credit": before the meter's registers are read
        self._now_s = now_s
        self._meters = meters
        self.cap_keys = dict(cap_keys or {})
        self._speech: TerminalSpeech | None = None
        self._says = 2
        self._held: dict[int, TerminalCard] = {}  # by the sequence of what was said about it
        plan = DtuPlan(
            registration=name.encode(),
            latency_s=0.0,
            jitter_s=0.0,
            reconnect_s=reconnect_s,
            restart_quiet_s=0.0,
        )
        super().__init__(
            bus,
            plan,
            host=host,
            port=port,
            timing=timing,
            faults=faults,
            seed=seed,
            new_speech=self._new_speech,
        )

    def _new_speech(self) -> TerminalSpeech:
        self._speech = TerminalSpeech(self)
        return self._speech

    @property
    def is_online(self) -> bool:
        """Whether a head-end that proved itself answers."""
        return self.is_connected and self._speech is not None and self._speech.is_in

    def now_s(self) -> int:
        """Its own clock."""
        return int(self._now_s()) + self.clock_wrong_s

    def show(self, line: str) -> None:
        """On the screen."""
        self.screen.append(line)

    @property
    def verdict(self) -> str:
        """What it showed last of money: not how the card was written after that."""
        return next(line for line in reversed(self.screen) if line not in CARD_LINES.values())

    @property
    def is_at_rest(self) -> bool:
        """No tap is under way, and no card is to stay."""
        return not self.book.taps and not self.holding

    # ---- a tenant taps ---------------------------------------------------------------------------

    def tap(self, card: TerminalCard) -> str:
        """The card is held to it: asked on-line, sold alone otherwise. The id of an on-line tap."""
        if self.is_online:
            return self._ask(TAP, card, {})
        self._sell_alone(card)
        return ""

    def buy(self, card: TerminalCard, amount_fen: int) -> str:
        """So much out of the balance; on-line only."""
        if not self.is_online:
            self.show("无法联机 / no connection: only the purchase on the card")
            return ""
        return self._ask(BUY, card, {"amount_fen": amount_fen})

    def ask_recharges(self, card: TerminalCard) -> None:
        """The last twenty, of the head-end's books."""
        self.say(self._of_card(ASK_RECHARGES, card, serial=card.serial))

    def _ask(self, kind: int, card: TerminalCard, more: dict[str, Any]) -> str:
        tap_id = str(uuid.uuid4())
        fields = {"id": tap_id, "serial": card.serial, **more}
        self.book.taps[tap_id] = {"kind": kind, "fields": fields, "card": card, "stage": ""}
        self.show("请稍候 / please wait")
        self.say(self._of_card(kind, card, **fields))
        return tap_id

    def _of_card(self, kind: int, card: TerminalCard, /, **fields: Any) -> bytes:
        made = self._told(kind, **fields)
        self._held = {self._says: card, **dict(list(self._held.items())[:HELD_MAX])}
        if card.chip is not None:
            card.chip.inserted_again()
        return made

    def _told(self, kind: int, /, **fields: Any) -> bytes:
        self._says = self._says % 0xFFFF + 1
        return told(kind, self._says, **fields)

    def _sell_alone(self, card: TerminalCard) -> None:
        no = self._why_not(card)
        if no:
            self.show(no)
            return
        cap = self.book.cap
        assert cap is not None, "judged before"
        unit = self._meters[card.meter_number]
        meter = self.line.bus.units[unit].meter
        # In the book before the meter hears of it: a power cut leaves a record, not a secret.
        spent = (card.serial, cap["number"])
        self.book.to_card[spent] = self.book.to_card.get(spent, 0) + card.amount_fen
        self.book.in_all[cap["number"]] = self.book.in_all.get(cap["number"], 0) + card.amount_fen
        meter.purchase(card.amount_fen, card.purchase_count)
        seen = (meter.purchase_count, meter.total_purchased_fen)
        if self.cut_power_after == "credit":
            self.record(card, cap["number"], (None, None))
            raise PowerCut
        self.record(card, cap["number"], seen)
        self._landed(card.purchase_count, card.amount_fen)
        self.show(f"离线充值成功 / sold off-line: {card.amount_fen} fen")

    def _why_not(self, card: TerminalCard) -> str:
        cap = self.book.cap
        if cap is None or self.now_s() >= cap["valid_until_s"]:
            return "离线不可用 / no cap: wait for the connection"
        unit = self._meters.get(card.meter_number)
        if unit is None:
            return "非本箱电表 / no meter of this cabinet"
        if card.purchase_count != self.line.bus.units[unit].meter.purchase_count + 1:
            return "购电次数不符 / not the next purchase of this meter"
        to_card = self.book.to_card.get((card.serial, cap["number"]), 0)
        if to_card + card.amount_fen > cap["card_fen"]:
            return "超出单卡限额 / more than a card may have"
        if self.book.in_all.get(cap["number"], 0) + card.amount_fen > cap["total_fen"]:
            return "超出总限额 / more than the terminal may sell"
        return ""

    def record(
        self, card: TerminalCard, cap: int, seen: tuple[int | None, int | None]
    ) -> dict[str, Any]:
        """One more record of its log."""
        book = self.book
        book.sequence += 1
        numbers = (book.sequence, cap, self.now_s(), card.purchase_count, card.amount_fen)
        plain = (
            book.mac
            + b"".join(number.to_bytes(4, "big") for number in numbers)
            + bytes.fromhex(card.serial)
            + card.meter_number.encode()
            + b"".join((NOT_SEEN if one is None else one).to_bytes(4, "big") for one in seen)
        )
        key = hmac.digest(self.secret, b"terminal log", "sha256")
        book.mac = hmac.digest(key, plain, "sha256")[:16]
        made = {
            "sequence": numbers[0],
            "cap": cap,
            "at_s": numbers[2],
            "serial": card.serial,
            "meter_number": card.meter_number,
            "purchase_count": card.purchase_count,
            "amount_fen": card.amount_fen,
            "after_count": seen[0],
            "after_total_fen": seen[1],
            "mac": book.mac.hex(),
        }
        book.untold.append(made)
        return made

    def _landed(self, count: int, amount_fen: int) -> None:
        told = {"purchase_count": count, "amount_fen": amount_fen, "at_s": self.now_s()}
        self.book.recharges.insert(0, told)
        del self.book.recharges[BOOK_MAX:]

    # ---- what the head-end says ------------------------------------------------------------------

    def welcomed(self) -> list[bytes]:
        """On-line again: open taps are asked again under their ids, the log is told from its
        oldest record that was not taken. A card that was to be written may be taken away: its
        money was told, and the next tap writes it."""
        self.holding.clear()
        self.show("联机 / on-line")
        again = [
            self._of_card(one["kind"], one["card"], **one["fields"])
            for one in self.book.taps.values()
        ]
        return again + self._next_untold()

    def _next_untold(self) -> list[bytes]:
        return [self._told(ISLAND_SALE, **one) for one in self.book.untold[:1]]

    def heard(self, kind: int, fields: dict[str, Any]) -> list[bytes]:
        """One frame of the head-end."""
        if kind == CAP:
            self._cap(fields)
        elif kind == IDENTIFIED:
            self.show(f"{fields['room']} {fields['balance_fen']} fen, {fields['waiting_fen']} fen")
        elif kind == BOUGHT:
            self._bought(fields)
        elif kind == RECHARGES:
            self.shown_recharges = fields.get("recharges", [])
            if "why" in fields:
                self.show(f"{fields['zh']} / {fields['en']}")
        elif kind == CARD_COMMAND:
            return [self._to_card(fields)]
        elif kind == ISLAND_TAKEN:
            return self._taken(fields)
        return []

    def _to_card(self, fields: dict[str, Any]) -> bytes:
        """It carries a command to the card and its answer back; it understands neither."""
        about = {"about": fields["about"], "step": fields["step"]}
        card = self._held.get(fields["about"])
        try:
            if card is None or card.chip is None:
                raise Pulled
            answer = card.chip.apdu(bytes.fromhex(fields["apdu"]))
        except Pulled:
            return self._told(CARD_ANSWER, **about, gone=True)
        return self._told(CARD_ANSWER, **about, answer=answer.hex())

    def _cap(self, fields: dict[str, Any]) -> None:
        numbers = ("total_fen", "card_fen", "first_sequence", "number", "valid_until_s")
        body = (
            b"".join(fields[one].to_bytes(4, "big") for one in numbers)
            + fields["key_version"].to_bytes(2, "big")
            + fields["day"].encode()
            + fields["terminal"].encode()
        )
        key = self.cap_keys.get(fields["key_version"])
        mine = fields["terminal"] == self.name
        if mine and key is not None and cmac(key, body).hex() == fields["mac"]:
            self.book.cap = fields
            self.show(f"离线限额 / cap {fields['number']}: {fields['total_fen']} fen")
        else:
            self.show("离线限额无效 / a cap with a wrong seal")

    def _bought(self, fields: dict[str, Any]) -> None:
        if fields.get("stage") in CARD_LINES:
            self._card_done(fields)
            return
        one = self.book.taps.get(fields.get("id", ""))
        if "why" in fields:
            self.show(f"{fields['zh']} / {fields['en']}")
            self.book.taps.pop(fields.get("id", ""), None)
            return
        if one is None:
            return
        one["stage"] = fields["stage"]
        self.show(fields["stage"])
        if fields["stage"] == "in_meter":
            self._landed(fields["purchase_count"], fields["amount_fen"])
        if fields["stage"] in ("in_meter", "refused", "nothing"):
            del self.book.taps[fields["id"]]
            if fields.get("hold"):
                self.holding[fields["id"]] = one["card"]

    def _card_done(self, fields: dict[str, Any]) -> None:
        """The money was told before; this is about the card alone."""
        card = self.holding.pop(fields["id"], None)
        self.show(CARD_LINES[fields["stage"]])
        if card is not None and fields["stage"] == "written_back":
            told = ("purchase_count", "amount_fen")
            card.written_back = {name: fields[name] for name in told}

    def _taken(self, fields: dict[str, Any]) -> list[bytes]:
        untold = self.book.untold
        if fields.get("clash"):
            self.clashes.append(fields)
            self.show(f"{fields['zh']} / {fields['en']}")
        if not untold or fields.get("number") != untold[0]["sequence"]:
            return []
        if fields["next"] <= untold[0]["sequence"]:
            return []  # not part of the log there: a person looks
        untold.pop(0)
        return self._next_untold()
