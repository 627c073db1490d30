"""Shamir's shares: the field is a field, any `needed` give the secret, fewer say nothing."""

from __future__ import annotations

import itertools
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headend.keys.shares import BadShare, Share, join, share_of, split, times


def test_the_field_is_a_field() -> None:
    assert times(0x57, 0x83) == 0xC1  # FIPS 197, 4.2
    for a in range(256):
        assert times(a, 1) == a == times(1, a)
        if a:
            assert {times(a, b) for b in range(256)} == set(range(256)), "a times is one to one"
    chance = random.Random(1)
    for _ in range(2000):
        a, b, c = (chance.randrange(256) for _ in range(3))
        assert times(a, b) == times(b, a)
        assert times(a, times(b, c)) == times(times(a, b), c)
        assert times(a, b ^ c) == times(a, b) ^ times(a, c)


# How long it takes is the machine's affair, not the field's.
@settings(deadline=None)
@given(st.binary(min_size=1, max_size=40), st.integers(2, 5), st.integers(0, 3), st.randoms())
def test_any_that_are_enough_give_the_secret(
    secret: bytes, needed: int, spare: int, chance: random.Random
) -> None:
    total = needed + spare
    shares = split(secret, needed, total, chance.randbytes((needed - 1) * len(secret)))
    for some in itertools.islice(itertools.combinations(shares, needed), 6):
        assert join(some) == secret
        assert join(shares) == secret, "more than needed do no harm"
    with pytest.raises(BadShare, match="are needed"):
        join(shares[: needed - 1])


def test_one_share_too_few_leaves_every_secret_possible() -> None:
    """With one of two shares in hand, each of the 256 secrets has exactly one polynomial."""
    held = split(b"\x5a", 2, 3, b"\xc3")[0]
    fits = [
        secret
        for secret in range(256)
        for coefficient in range(256)
        if split(bytes((secret,)), 2, 3, bytes((coefficient,)))[0] == held
    ]
    assert sorted(fits) == list(range(256))


def test_text_of_a_share_finds_slips_of_the_pen() -> None:
    share = split(bytes(range(32)), 3, 5, bytes(range(64)))[2]
    text = share.text()
    assert share_of(text) == share
    assert share_of(f"  {text.upper()[:9]} {text[9:]} ") == share
    for at, letter in enumerate(text):
        other = "0" if letter != "0" else "1"
        with pytest.raises(BadShare):
            share_of(text[:at] + other + text[at + 1 :])
    assert bytes(range(32)).hex() not in repr(share)


def test_shares_that_do_not_belong_together() -> None:
    first = split(b"secret", 2, 3, b"123456")
    other = split(b"longer secret", 2, 3, bytes(13))
    with pytest.raises(BadShare, match="not of one"):
        join([first[0], other[1]])
    with pytest.raises(BadShare, match="twice"):
        join([first[0], first[0]])
    with pytest.raises(BadShare, match="no share"):
        join([])
    foreign = split(b"secrex", 2, 3, b"654321")
    assert join([first[0], foreign[1]]) != b"secret"


@pytest.mark.parametrize("bad", ["", "1-1-aa-00000000", "2-x-aa", Share(1, 1, b"a").text()])
def test_no_share(bad: str) -> None:
    with pytest.raises(BadShare):
        share_of(bad)


@pytest.mark.parametrize(("needed", "total", "secret"), [(1, 3, b"s"), (4, 3, b"s"), (2, 3, b"")])
def test_no_such_split(needed: int, total: int, secret: bytes) -> None:
    with pytest.raises(ValueError, match="shares"):
        split(secret, needed, total, bytes((needed - 1) * len(secret)))
