"""Faults come from a seed, are counted, and can be switched off."""

from __future__ import annotations

import pytest

from simulators.faults import Delivery, FaultRates, Faults, fault_rates

ANSWER = bytes(range(40))
EVERY = {
    "request_lost": 0.3,
    "answer_lost": 0.2,
    "bit_error": 0.2,
    "noise": 0.2,
    "truncated": 0.2,
    "doubled": 0.2,
    "late": 0.2,
    "silence": 0.02,
    "reboot": 0.02,
}


def flipped(answer: bytes) -> int:
    """How many bits of the answer are not as sent."""
    pairs = zip(answer, ANSWER, strict=True)
    return sum((came ^ sent).bit_count() for came, sent in pairs)


def day(faults: Faults, requests: int = 400) -> list[tuple[bool, list[Delivery]]]:
    return [
        (faults.request_arrives(1, float(at)), faults.deliveries(ANSWER)) for at in range(requests)
    ]


def test_a_seed_is_a_bad_day() -> None:
    rates = FaultRates(**EVERY)
    first, again, other = (Faults(seed=seed, rates=rates) for seed in (5, 5, 6))
    assert day(first) == day(again)
    assert day(other) != day(Faults(seed=5, rates=rates))
    assert all(first.counts[name] for name in EVERY), first.counts


@pytest.mark.parametrize(
    ("fault", "broken"),
    [
        ("answer_lost", lambda out: out == []),
        (
            "bit_error",
            lambda out: sum(a != b for a, b in zip(out[0].data, ANSWER, strict=True)) == 1,
        ),
        ("noise", lambda out: len(out[0].data) > 40 and out[0].data.endswith(ANSWER)),
        ("truncated", lambda out: 0 < len(out[0].data) < 40 and ANSWER.startswith(out[0].data)),
        ("doubled", lambda out: [d.data for d in out] == [ANSWER, ANSWER]),
        ("late", lambda out: out[0].delay_s > 0 and out[0].data == ANSWER),
    ],
)
def test_each_fault_does_what_it_says(fault: str, broken: object) -> None:
    assert callable(broken)
    assert broken(Faults(seed=1, rates=fault_rates({fault: 1.0})).deliveries(ANSWER))


def test_silence_lasts_and_ends() -> None:
    faults = Faults(seed=1, rates=FaultRates(silence=1.0, silence_s_mean=10.0))
    assert not faults.request_arrives(1, 0.0)
    faults.rates = FaultRates()
    assert not faults.request_arrives(1, 0.001), "the window is still open"
    assert faults.request_arrives(2, 0.001), "another unit is not concerned"
    assert faults.request_arrives(1, 10_000.0)


def test_calm_ends_everything() -> None:
    faults = Faults(seed=1, rates=FaultRates(**EVERY), calm=True)
    assert all(heard and out == [Delivery(0.0, ANSWER)] for heard, out in day(faults))


def test_wrong_rates_are_one_sentence() -> None:
    with pytest.raises(ValueError, match="no fault is called rain"):
        fault_rates({"rain": 0.1})
    with pytest.raises(ValueError, match="fault noise must be between 0 and 1, not 2"):
        fault_rates({"noise": 2.0})
