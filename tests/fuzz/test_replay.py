"""The fuzzer's corpus, replayed: what it once found stays found."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fuzz.fuzz_codecs import TARGETS, check

CORPUS = sorted((Path(__file__).parent / "corpus").iterdir())


@pytest.mark.parametrize("path", CORPUS, ids=lambda path: path.name)
def test_the_corpus_breaks_no_promise(path: Path) -> None:
    check(path.read_bytes())


def test_the_corpus_reaches_every_target() -> None:
    assert {path.read_bytes()[0] % len(TARGETS) for path in CORPUS} == set(range(len(TARGETS)))


@given(st.integers(0, len(TARGETS) - 1), st.binary(max_size=300))
def test_random_bytes_break_no_promise(target: int, data: bytes) -> None:
    check(bytes((target,)) + data)
