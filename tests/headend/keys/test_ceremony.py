"""Components become a key, or the ceremony stops and says why without a component in it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from typer.testing import CliRunner

from headend.cli import keys as cli_keys
from headend.cli.commands import app
from headend.keys.ceremony import CeremonyError, Component, combine, component_kcv, component_of
from headend.keys.primitives import Algorithm, kcv
from headend.keys.records import CreditField
from headend.keys.vault import Vault
from protocols.card_image import AMOUNT_AT
from protocols.terminal_island import TOTAL_AT, Cap, cap_body

A = "00112233445566778899aabbccddeeff"
B = "c0ffee0102030405060708090a0b0c0d"
AES = Algorithm.AES128


def test_all_components_together_are_the_key() -> None:
    parts = [component_of("Li", A, AES), component_of("Wang", B.upper(), AES)]
    key = combine(parts, AES)
    assert key.hex() == f"{int(A, 16) ^ int(B, 16):032x}"
    assert component_kcv(parts[0], AES) == kcv(AES, bytes.fromhex(A))
    parts[0].wipe()
    assert parts[0].secret == bytes(16)
    assert A not in repr(parts)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ([("Li", A)], "2 to 5"),
        ([("Li", A), ("li ", B)], "custodian of its own"),
        ([("Li", A), ("", B)], "custodian of its own"),
        ([("Li", A), ("Wang", A)], "equal"),
        ([("Li", A), ("Wang", "00" * 16)], "all zeros"),
        ([("Li", A), ("Wang", f"{int(A, 16) ^ int('7' * 32, 16):032x}")], "bytes are equal"),
    ],
)
def test_what_stops_a_ceremony(given: list[tuple[str, str]], told: str) -> None:
    parts = [component_of(name, text, AES) for name, text in given]
    with pytest.raises(CeremonyError, match=told):
        combine(parts, AES)


@pytest.mark.parametrize("text", ["xyz", A[:-2], A + "00"])
def test_no_component(text: str) -> None:
    with pytest.raises(CeremonyError, match="Li") as caught:
        component_of("Li", text, AES)
    assert text not in str(caught.value)


def test_officers_make_list_stop_and_back_up_a_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The whole day of a key over the command line, its secret never on the screen."""
    secret = tmp_path / "passphrase"
    secret.write_text("correct horse battery staple\n")
    monkeypatch.setenv("HEADEND_KEYS_SECRET_FILE", str(secret))
    monkeypatch.setenv("HEADEND_LANG", "en")
    runner = CliRunner()

    def keys(*given: str, typed: str = "") -> str:
        told = runner.invoke(app, ["keys", *given, "--keys-folder", str(tmp_path)], input=typed)
        assert told.exit_code == 0, told.output
        return told.output

    made = f"{int(A, 16) ^ int(B, 16):032x}"
    args = ["recharge", "--custodian", "Li", "--custodian", "Wang", "--yuan-a-day", "1000"]
    shown = keys("ceremony", *args, typed=f"{A}\n\n{B}\n\n")
    assert kcv(AES, bytes.fromhex(made)).hex().upper() in shown
    assert made not in shown.lower()
    assert A not in shown.lower()
    assert "recharge|site|1" in keys("list")
    assert "recharge|site|2" in keys("ceremony", *args, typed=f"\n\n{B}\n\n"), "one was made"
    keys("stop", "recharge|site|1", "--accept")
    assert '"state": "stopped"' in keys("list", "--json")
    assert "3 lines, sound" in keys("verify-log")

    told = keys("backup", str(tmp_path / "sealed"), "--needed", "2", "--total", "3", typed="\n\n\n")
    shares = [line.strip() for line in told.splitlines() if line.strip().startswith("2-")]
    other = tmp_path / "other"
    back = runner.invoke(
        app,
        ["keys", "restore", str(tmp_path / "sealed"), "--keys-folder", str(other)],
        input=f"{shares[2]}\n{shares[0]}\n",
    )
    assert "2 keys restored" in back.output
    again = runner.invoke(app, ["keys", "list", "--json", "--keys-folder", str(other)])
    assert again.output == keys("list", "--json")

    refused = runner.invoke(
        app,
        ["keys", "ceremony", *args[:5], "--keys-folder", str(tmp_path)],
        input=f"{A}\n\n{B}\n\n",
    )
    assert refused.exit_code == 3
    assert "daily credit limit" in refused.output


@pytest.mark.parametrize("second", [B, A])
def test_a_ceremony_leaves_no_component_and_no_key_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, second: str
) -> None:
    """Whether it makes a key or stops: every byte that was held in hand is overwritten."""
    secret = tmp_path / "passphrase"
    secret.write_text("correct horse battery staple\n")
    monkeypatch.setenv("HEADEND_KEYS_SECRET_FILE", str(secret))
    held: list[bytearray] = []

    def watched(components: Sequence[Component], algorithm: Algorithm) -> bytearray:
        held.extend(component.secret for component in components)
        assert all(any(one) for one in held), "not wiped before it was used"
        key = combine(components, algorithm)
        held.append(key)
        assert any(key)
        return key

    monkeypatch.setattr(cli_keys, "combine", watched)
    line = ["keys", "ceremony", "write-back", "--custodian", "Li", "--custodian", "Wang"]
    done = CliRunner().invoke(
        app, [*line, "--keys-folder", str(tmp_path)], input=f"{A}\n\n{second}\n\n"
    )
    assert (done.exit_code == 0) is (second == B), done.output
    assert len(held) == (3 if second == B else 2)
    assert not any(any(one) for one in held)


@pytest.mark.parametrize(
    ("purpose", "amount_at"), [("recharge", AMOUNT_AT), ("terminal-cap", TOTAL_AT)]
)
def test_the_credit_of_a_key_is_read_where_its_own_format_has_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, purpose: str, amount_at: int
) -> None:
    secret = tmp_path / "passphrase"
    secret.write_text("correct horse battery staple\n")
    monkeypatch.setenv("HEADEND_KEYS_SECRET_FILE", str(secret))
    line = ["keys", "ceremony", purpose, "--custodian", "Li", "--custodian", "Wang"]
    line += ["--yuan-a-day", "1000", "--keys-folder", str(tmp_path)]
    done = CliRunner().invoke(app, line, input=f"{A}\n\n{B}\n\n")
    assert done.exit_code == 0, done.output
    (vault,) = tmp_path.glob("*vault*")
    opened = Vault.open(vault, "correct horse battery staple")
    (made,) = opened.records()
    opened.close()
    assert made.credit == CreditField(offset=amount_at, length=4)
    cap = Cap(
        number=1, terminal="T1", day="2026-03-20", card_fen=1, total_fen=4321, first_sequence=1,
        valid_until_s=1, key_version=1,
    )  # fmt: skip
    if purpose == "terminal-cap":
        assert made.credit.fen(cap_body(cap)) == 4321
