"""A recharge terminal with a keyboard: somebody plays the tenant, the cashier's hand, the weather.

One line a wish. Cards are kept as files in a folder, so that they are there again tomorrow. A card
can be laid on the virtual reader of pcscd (vsmartcard's vpcd), where a real card desk sells on it,
and then be held to this terminal.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import struct
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from simulators.card_meter import DOWN, newest
from simulators.card_slot import SLOT_0, CardSlot
from simulators.cards import RfCard
from simulators.rf_terminal import RfTerminal, TerminalCard

UID_BYTES, SERIAL_HEX = 4, 16
TAP_S_MAX, LOOK_S = 30.0, 0.05
HELP = """\
cards                 我的卡 / my cards
new NAME              一张空白卡 / a blank card from the packet
desk NAME             放到柜台读卡器 / lay it on the desk's reader (pcscd with vpcd); lift: take it
tap NAME              刷卡充值 / hold it to the terminal
buy NAME YUAN         用余额购电 / buy out of the balance
list NAME             最近二十次充值 / the last twenty recharges
meter                 电表显示 / what the meters show
away, back            断网, 联网 / pull its network, plug it in again
clock SECONDS         拨错时钟 / make its clock wrong
help, quit"""


class WrongKey(ValueError):
    """What was typed cannot be done; one sentence."""


class Window:
    """One terminal, one keyboard, one pocket with cards."""

    def __init__(self, terminal: RfTerminal, folder: Path, say: Callable[[str], None]) -> None:
        """`folder`: where the cards are. `say`: prints one line."""
        self._terminal = terminal
        self._folder = folder
        self._say = say
        self._shown = 0
        self._on_desk: tuple[str, RfCard] | None = None
        self._slot = CardSlot(lambda: socket.create_connection(("127.0.0.1", SLOT_0), 5))

    async def typed(self, line: str) -> bool:
        """Do what one line says; False: it said quit."""
        word, *rest = line.split() or [""]
        if word in ("quit", "exit"):
            return False
        acts: dict[str, Callable[..., Awaitable[None]]] = {
            "": self._nothing, "help": self._help, "cards": self._cards, "new": self._new,
            "desk": self._lay, "lift": self._lift, "tap": self._tap, "buy": self._buy,
            "list": self._list, "meter": self._meters, "away": self._away, "back": self._back,
            "clock": self._clock,
        }  # fmt: skip
        act = acts.get(word)
        try:
            if act is None:
                raise WrongKey(f"没有 {word} / there is no {word}: help")
            await act(*rest)
        except TypeError:
            self._say(f"{word} 的参数不对 / {word} is typed otherwise: help")
        except (WrongKey, OSError) as error:
            self._say(str(error))
        self.show_screen()
        return True

    def show_screen(self) -> None:
        """Whatever the display has shown since."""
        for line in self._terminal.screen[self._shown :]:
            self._say(f"  ▏{line}")
        self._shown = len(self._terminal.screen)

    async def close(self) -> None:
        """Take the card off the desk."""
        if self._on_desk is not None:
            await self._lift()

    # ---- cards -----------------------------------------------------------------------------------

    def _path(self, name: str) -> Path:
        if not name.isalnum():
            raise WrongKey("卡名用字母和数字 / a card's name is letters and digits")
        return self._folder / f"{name}.card"

    def _card(self, name: str) -> RfCard:
        if self._on_desk is not None and self._on_desk[0] == name:
            raise WrongKey(f"{name} 在柜台上 / {name} lies on the desk: lift")
        path = self._path(name)
        if not path.exists():
            raise WrongKey(f"没有卡 {name} / there is no card {name}: new {name}")
        kept = json.loads(path.read_text(encoding="ascii"))
        card = RfCard(bytes.fromhex(kept["uid"]))
        card.memory[:] = bytes.fromhex(kept["memory"])
        return card

    def _keep(self, name: str, card: RfCard) -> None:
        kept = {"uid": card.uid.hex(), "memory": card.memory.hex()}
        self._path(name).write_text(json.dumps(kept), encoding="ascii")

    def _held(self, name: str) -> TerminalCard:
        """A card as the terminal reads it, with the purchase that lies on it."""
        card = self._card(name)
        meter, count, amount_fen = purchase_on(card)
        serial = card.uid.hex().ljust(SERIAL_HEX, "0")
        return TerminalCard(serial, meter, count, amount_fen, chip=card)

    async def _nothing(self) -> None:
        pass

    async def _help(self) -> None:
        self._say(HELP)

    async def _cards(self) -> None:
        for path in sorted(self._folder.glob("*.card")):
            name = path.stem
            if self._on_desk is not None and self._on_desk[0] == name:
                self._say(f"{name}: 在柜台上 / on the desk")
                continue
            card = self._card(name)
            meter, count, amount_fen = purchase_on(card)
            told = f"{meter} #{count} {_yuan(amount_fen)}" if meter else "空 / empty"
            self._say(f"{name}: {card.uid.hex()} {told}")

    async def _new(self, name: str) -> None:
        if self._path(name).exists():
            raise WrongKey(f"已有卡 {name} / there is a card {name} already")
        self._folder.mkdir(parents=True, exist_ok=True)
        self._keep(name, RfCard(os.urandom(UID_BYTES)))

    async def _lay(self, name: str) -> None:
        if self._on_desk is not None:
            raise WrongKey(f"柜台上是 {self._on_desk[0]} / {self._on_desk[0]} lies there: lift")
        card = self._card(name)
        await asyncio.to_thread(self._slot.insert, card)
        self._on_desk = (name, card)

    async def _lift(self) -> None:
        if self._on_desk is None:
            raise WrongKey("柜台上没有卡 / no card lies on the desk")
        name, card = self._on_desk
        await asyncio.to_thread(self._slot.pull)
        self._on_desk = None
        card.inserted_again()
        self._keep(name, card)

    # ---- at the terminal -------------------------------------------------------------------------

    async def _tap(self, name: str) -> None:
        held = self._held(name)
        self._terminal.tap(held)
        await self._ended()
        self._keep_chip(name, held)

    async def _buy(self, name: str, yuan: str) -> None:
        whole, _, cents = yuan.partition(".")
        if not (whole.isdecimal() and len(cents) <= 2 and (not cents or cents.isdecimal())):
            raise WrongKey("金额如 50 或 50.50 / an amount is 50 or 50.50")
        held = self._held(name)
        self._terminal.buy(held, int(whole) * 100 + int((cents or "0").ljust(2, "0")))
        await self._ended()
        self._keep_chip(name, held)

    async def _list(self, name: str) -> None:
        self._terminal.shown_recharges = []
        told = len(self._terminal.screen)
        self._terminal.ask_recharges(self._held(name))
        for _ in range(int(TAP_S_MAX / LOOK_S)):
            if self._terminal.shown_recharges or len(self._terminal.screen) > told:
                break
            await asyncio.sleep(LOOK_S)
        for one in self._terminal.shown_recharges:
            self._say(f"{one['at']}  #{one['purchase_count']}  {_yuan(one['amount_fen'])}")

    def _keep_chip(self, name: str, held: TerminalCard) -> None:
        if isinstance(held.chip, RfCard):
            self._keep(name, held.chip)

    async def _ended(self) -> None:
        for _ in range(int(TAP_S_MAX / LOOK_S)):
            self.show_screen()
            if self._terminal.is_at_rest:
                self.show_screen()
                return
            await asyncio.sleep(LOOK_S)

    async def _meters(self) -> None:
        for unit, one in self._terminal.line.bus.units.items():
            look = one.meter.look()
            light = "通电 / light on" if look.relay_closed else "断电 / dark"
            self._say(
                f"{unit}: {look.meter_number} #{look.purchase_count} "
                f"{_yuan(look.remaining_fen)} {light}"
            )

    # ---- the weather -----------------------------------------------------------------------------

    async def _away(self) -> None:
        await self._terminal.unplug()
        self._say("已断网 / its network is pulled")

    async def _back(self) -> None:
        await self._terminal.plug()
        for _ in range(int(TAP_S_MAX / LOOK_S)):
            if self._terminal.is_online:
                return
            await asyncio.sleep(LOOK_S)
        self._say("主站没有应答 / the head-end does not answer")

    async def _clock(self, seconds: str) -> None:
        try:
            self._terminal.clock_wrong_s = int(seconds)
        except ValueError:
            raise WrongKey("秒数是整数 / seconds are a whole number") from None
        self._say(time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(self._terminal.now_s())))


def purchase_on(card: RfCard) -> tuple[str, int, int]:
    """Meter number, count and amount of the record that lies on a card; "" and zeros: none does."""
    found = newest(card, DOWN)
    if found is None:
        return "", 0, 0
    record = found[2]
    amount_fen, count = struct.unpack(">II", record[24:32])
    return record[4:10].hex(), count, amount_fen


def _yuan(fen: int) -> str:
    return f"{'-' if fen < 0 else ''}{abs(fen) // 100}.{abs(fen) % 100:02d} 元"


def keyboard() -> Callable[[], Awaitable[str]]:
    """Lines as they are typed; "" at their end. Its thread holds up no end of the program."""
    loop, lines = asyncio.get_running_loop(), asyncio.Queue[str]()

    def listen() -> None:
        line = "first"
        while line:
            line = sys.stdin.readline()
            try:
                loop.call_soon_threadsafe(lines.put_nowait, line)
            except RuntimeError:  # the loop has ended, and with it whoever listened
                return

    threading.Thread(target=listen, name="keyboard", daemon=True).start()
    return lines.get


async def run_window(
    window: Window, read: Callable[[], Awaitable[str]], say: Callable[[str], None]
) -> None:
    """Until quit, or until nobody types any more."""
    say(HELP)
    try:
        while True:
            line = await read()
            if not line or not await window.typed(line):
                return
    finally:
        await window.close()
