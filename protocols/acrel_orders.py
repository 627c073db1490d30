"""How orders to Acrel meters go: look, intent, one write, look again. Shared by all their drivers.

The meter's answer to a write is never believed, neither yes nor no: what its registers show is.
"""

from __future__ import annotations

from collections.abc import Callable

from protocols.evidence import judge
from protocols.exchange import (
    Answer,
    Conversation,
    CountOutOfStep,
    Evidence,
    Intent,
    NotReady,
    Refusal,
    Request,
    ask,
)
from protocols.meter_type import Supply, SupplyLook, SupplyOutcome, TopUp, TopUpOutcome

AMOUNT_STEPS_MAX = 0xFFFF_FFFE  # a 32-bit register, and all ones mean "not available"
# A relay needs some tenths of a second to move: each look takes about as long.
SUPPLY_LOOKS_MAX = 3


def steps_of(amount_fen: int, step_fen: int, what: str) -> int:
    """An amount as the meter counts it. Raises NotReady for one its registers cannot hold."""
    steps, rest = divmod(amount_fen, step_fen)
    if rest:
        raise NotReady(
            f"{what} of {amount_fen} fen does not fit a meter that counts in steps of {step_fen} "
            f"fen; choose a multiple"
        )
    if not 0 <= steps <= AMOUNT_STEPS_MAX:
        raise NotReady(f"{what} of {amount_fen} fen does not fit the meter's register; lower it")
    return steps


def buy(
    order: TopUp, before: Evidence, request: Request, look: Callable[[], Conversation[Evidence]]
) -> Conversation[TopUpOutcome]:
    """One purchase, once. Raises CountOutOfStep or NotReady before anything is written."""
    if before.purchase_count is None:
        raise NotReady("the meter tells no purchase count, so no purchase could be proved")
    if before.purchase_count != order.purchase_count - 1:
        raise CountOutOfStep(before, order.purchase_count - 1)
    if not order.amount_fen and before.total_purchased_fen is None:
        raise NotReady("the meter tells no total of purchases, so a burnt count is not proved")
    yield Intent(before)
    answer = yield from ask(request)
    after = yield from look()
    return TopUpOutcome(
        verdict=judge(before, after, order.amount_fen),
        before=before,
        after=after,
        refusal=refusal_code(answer),
    )


def switch(
    supply: Supply,
    phases: int,
    before: Evidence,
    request: Request,
    look: Callable[[], Conversation[SupplyLook]],
) -> Conversation[SupplyOutcome]:
    """One order to the relay, once; it may take some looks until it has moved."""
    yield Intent(before)
    answer = yield from ask(request)
    seen = yield from look()
    for _ in range(SUPPLY_LOOKS_MAX - 1):
        if supply_held(supply, phases, seen):
            break
        seen = yield from look()
    held = supply_held(supply, phases, seen)
    return SupplyOutcome(held=held, look=seen, refusal=refusal_code(answer))


def supply_held(supply: Supply, phases: int, look: SupplyLook) -> bool:
    """Whether the relay stands as ordered. After a release it is the meter's own affair."""
    if supply is Supply.RELEASE:
        return not look.forced
    closed = (1 << phases) - 1 if supply is Supply.CLOSE else 0
    return look.forced and look.relay_closed_bits == closed


def supply_look(evidence: Evidence) -> SupplyLook | None:
    """The relay out of evidence; None where the meter does not tell."""
    if evidence.relay_closed_bits is None or evidence.forced is None:
        return None
    return SupplyLook(relay_closed_bits=evidence.relay_closed_bits, forced=evidence.forced)


def refusal_code(answer: Answer) -> int | None:
    """The meter's own code, when it said no."""
    return answer.code if isinstance(answer, Refusal) else None
