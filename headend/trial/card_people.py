"""The day of tenants with cards.

Cards are bought, held to the meter, lost, found again, reissued, moved to the line, taken back,
burned, pulled in the middle, and copied.

A tenant holds whatever card he has to his meter whenever he likes, and nobody tells the head-end.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator

from headend.trial.card_visits import CardVisits, Tenant

Wish = tuple[float, Callable[[], Awaitable[None]]]

SALES = (1, 3)  # of one tenant with a card
HELD_SHARE = 0.8  # of cards that were bought
SOON_S_MAX = 60.0
TENS_MAX = 2_000  # amounts are whole ten fen, as every one that is ours


class CardPeople(CardVisits):
    """Everybody around the cards of one seed."""

    # ---- the day --------------------------------------------------------------------------------

    def wishes(self, until_s: float) -> Iterator[Wish]:
        """What tenants want in one seed; nothing where nobody has a card."""
        for tenant in self._tenants:
            for _ in range(self._chance.randint(*SALES)):
                yield from self._a_purchase(tenant, self._chance.uniform(0.0, 0.8 * until_s))
            for _ in range(self._chance.choice((0, 1, 1, 2))):
                at_s = self._chance.uniform(0.2 * until_s, until_s)
                yield from self._chance.choice(self._stories())(tenant, at_s)

    def _stories(self) -> list[Callable[[Tenant, float], Iterator[Wish]]]:
        return [
            self._lost_and_reissued,
            self._lost_and_reissued,
            self._moved,
            self._moved,
            self._burned,
            self._taken_back,
            self._cloned,
            self._a_strangers,
        ]

    def _a_purchase(self, tenant: Tenant, at_s: float) -> Iterator[Wish]:
        amount_fen = 10 * self._chance.randrange(10, TENS_MAX)
        yield at_s, lambda: self._buy(tenant, amount_fen)
        if self._chance.random() < HELD_SHARE:
            yield self._after(at_s), lambda: self._hold(tenant)
        yield self._after(at_s, 200.0), lambda: self._read(tenant)

    def _lost_and_reissued(self, tenant: Tenant, at_s: float) -> Iterator[Wish]:
        yield from self._a_purchase(tenant, at_s)
        lost_s = self._after(at_s)
        yield lost_s, lambda: self._lose(tenant)
        if self._chance.random() < 0.3:
            yield self._after(lost_s), lambda: self._report(tenant)
        yield self._after(lost_s), lambda: self._reissue(tenant)
        if self._chance.random() < 0.7:
            yield self._after(lost_s, 120.0), lambda: self._find(tenant)
        if self._chance.random() < 0.6:
            yield self._after(lost_s, 120.0), lambda: self._hold(tenant)
        if self._chance.random() < 0.5:
            yield self._after(lost_s, 200.0), lambda: self._take_back(tenant)

    def _moved(self, tenant: Tenant, at_s: float) -> Iterator[Wish]:
        """To the line, with the card held to the meter at about the same time."""
        amount_fen = 10 * self._chance.randrange(10, TENS_MAX)
        yield at_s, lambda: self._buy(tenant, amount_fen)
        moved_s = self._after(at_s)
        yield moved_s, lambda: self._move(tenant)
        if self._chance.random() < 0.4:
            yield moved_s + self._chance.uniform(0.0, 15.0), lambda: self._stop_the_move(tenant)
        if self._chance.random() < 0.7:
            yield moved_s + self._chance.uniform(-2.0, 40.0), lambda: self._hold(tenant)
        yield self._after(moved_s, 200.0), lambda: self._read(tenant)

    def _burned(self, tenant: Tenant, at_s: float) -> Iterator[Wish]:
        amount_fen = 10 * self._chance.randrange(10, TENS_MAX)
        yield at_s, lambda: self._buy(tenant, amount_fen)
        lost_s = self._after(at_s)
        yield lost_s, lambda: self._lose(tenant)
        burned_s = self._after(lost_s)
        yield burned_s, lambda: self._burn(tenant)
        if self._chance.random() < 0.7:
            found_s = max(0.0, burned_s + self._chance.uniform(-20.0, 60.0))
            yield found_s, lambda: self._find(tenant)
        if self._chance.random() < 0.5:
            yield self._after(burned_s, 150.0), lambda: self._reissue(tenant)

    def _taken_back(self, tenant: Tenant, at_s: float) -> Iterator[Wish]:
        amount_fen = 10 * self._chance.randrange(10, TENS_MAX)
        yield at_s, lambda: self._buy(tenant, amount_fen)
        if self._chance.random() < 0.4:
            yield self._after(at_s), lambda: self._hold(tenant)
        yield self._after(at_s), lambda: self._take_back(tenant)
        if self._chance.random() < 0.5:
            yield self._after(at_s, 120.0), lambda: self._clear(tenant)

    def _cloned(self, tenant: Tenant, at_s: float) -> Iterator[Wish]:
        """A byte for byte copy, held beside its card or after that was handed back; it credits the
        one time that was paid."""
        amount_fen = 10 * self._chance.randrange(10, TENS_MAX)
        yield at_s, lambda: self._buy(tenant, amount_fen)
        copied_s = self._after(at_s)
        yield copied_s, lambda: self._copy(tenant)
        if self._chance.random() < 0.5:
            yield self._after(copied_s), lambda: self._take_back(tenant)
        else:
            yield self._after(copied_s), lambda: self._hold(tenant)
        yield self._after(copied_s, 120.0), lambda: self._find(tenant)

    def _a_strangers(self, tenant: Tenant, at_s: float) -> Iterator[Wish]:
        yield at_s, lambda: self._sell_on_a_strangers(tenant)

    def _after(self, at_s: float, most_s: float = SOON_S_MAX) -> float:
        return at_s + self._chance.uniform(0.5, most_s)

    # ---- the end --------------------------------------------------------------------------------

    def calm_down(self) -> None:
        """No card is pulled any more, and nobody dies over one."""
        self._day.dies = self._day.pulled = 0.0

    @property
    def has_ended(self) -> bool:
        """Whether no sale waits on a card."""
        row = self._ground.sessions.admin.execute(
            "SELECT count(*) FROM sale WHERE state = 'open' AND channel = 'card'"
        ).fetchone()
        return row == (0,)

    async def round(self) -> None:
        """Whoever still has a sale on a card uses it, or has its count burned."""
        for tenant in self._tenants:
            if not self._waits(tenant):
                continue
            if tenant.card is not None and self._chance.random() < 0.7:
                await self._hold(tenant)
                await self._read(tenant)
            if self._waits(tenant):
                await self._burn(tenant)
