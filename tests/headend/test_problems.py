"""What people are told: two languages, the same facts, stable codes; and what settings refuse."""

from __future__ import annotations

import os
import re
import string
from pathlib import Path

import pytest

from headend.cli import orders
from headend.cli.client import Client
from headend.cli.orders import command, fen_of, resolve, topup
from headend.domain.books import BooksWhy
from headend.domain.bulk import NotNow
from headend.domain.cases import CaseWhy
from headend.domain.commands import Why
from headend.domain.problems import CATALOG, Kind, Problem, language_of_terminal
from headend.services.terms import TermsWhy
from headend.settings import Settings, load_settings


@pytest.mark.parametrize("code", CATALOG)
def test_each_problem_says_the_same_in_both_languages(code: str) -> None:
    _, english, chinese = CATALOG[code]
    facts = [{f[1] for f in string.Formatter().parse(t) if f[1]} for t in (english, chinese)]
    assert facts[0] == facts[1]
    assert any("\u4e00" <= letter <= "\u9fff" for letter in chinese)
    assert not any("\u4e00" <= letter <= "\u9fff" for letter in english)


@pytest.mark.parametrize(
    "why", [*Why, *BooksWhy, *NotNow, *CaseWhy, *TermsWhy], ids=lambda why: why.value
)
def test_each_refusal_has_its_sentence(why: Why | BooksWhy | NotNow | CaseWhy | TermsWhy) -> None:
    told = Problem(why.value, meter="A-101", detail="because", rule="r")
    assert told.code == why.value
    assert "{" not in told.text("zh") + told.text("en")


def test_causes_have_different_exit_codes() -> None:
    codes = [kind.exit_code for kind in Kind]
    assert len(set(codes)) == len(codes)
    assert not {0, 1, 2} & set(codes), "done, a fault of ours, wrong usage"


def test_a_detail_with_its_own_full_stop_is_not_doubled() -> None:
    assert Problem("line-down", line="L1", detail="gone.").text("en") == "Line L1 is down: gone."


def test_the_language_is_the_terminals(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HEADEND_LANG", "LC_ALL", "LC_MESSAGES", "LANG"):
        monkeypatch.delenv(name, raising=False)
    assert language_of_terminal() == "en"
    monkeypatch.setenv("LANG", "zh_CN.UTF-8")
    assert language_of_terminal() == "zh"
    monkeypatch.setenv("HEADEND_LANG", "en")
    assert language_of_terminal() == "en"


def test_the_shipped_settings_are_the_defaults() -> None:
    shipped = load_settings(Path("config/headend.toml"), environment={})
    assert shipped == Settings()


def test_the_command_line_wins_over_the_environment_over_the_file(tmp_path: Path) -> None:
    file = tmp_path / "headend.toml"
    file.write_text('http_port = 1\ndial_in_port = 1\ndata_folder = "a"\n')
    settings = load_settings(
        file, {"HEADEND_HTTP_PORT": "2", "HEADEND_DIAL_IN_PORT": "2"}, {"http_port": 3}
    )
    assert (settings.http_port, settings.dial_in_port) == (3, 2)
    assert settings.data_folder == Path("a")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("htp_port = 1", "unknown key htp_port"),
        ("http_port = 'x'", "http_port must be a whole number"),
        ("http_port = -1", "http_port must be a whole number"),
        ("data_folder = 3", "data_folder must be a text"),
        ("http_port = ?\n", "line 1"),
    ],
)
def test_a_wrong_setting_is_one_sentence(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "headend.toml"
    file.write_text(text)
    with pytest.raises(Problem, match=said) as caught:
        load_settings(file, {})
    assert str(file) in str(caught.value)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_an_unreadable_file_is_one_sentence(tmp_path: Path) -> None:
    file = tmp_path / "headend.toml"
    file.write_text("")
    file.chmod(0)
    with pytest.raises(Problem, match="Permission denied"):
        load_settings(file, {})


def test_a_missing_named_file_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(Problem, match="No such file"):
        load_settings(tmp_path / "none.toml", {})


def test_a_sentence_without_its_detail_ends_in_a_full_stop() -> None:
    told = Problem("second-person-needed", detail="")
    assert told.text("en") == "This needs a second person."
    assert told.text("zh") == "此操作需要第二人批准。"
    assert Problem("second-person-needed", detail="x.").text("en").endswith(": x.")


@pytest.mark.parametrize(
    ("typed", "fen"), [("50", 5_000), ("50.5", 5_050), (" 0.05 ", 5), ("-5", -500), ("1.000", 100)]
)
def test_an_amount_is_taken_as_people_write_it(typed: str, fen: int) -> None:
    assert fen_of(typed) == fen


@pytest.mark.parametrize(
    "typed",
    ["", "abc", "0.005", "1e30", "1e9999", "1e999999", "nan", "sNaN", "inf", "1_000", "1,000"]
    + ["5" * 5_000, "50.0000000000000000000000000000000001"],
)
def test_what_is_no_amount_is_refused_and_never_rounded(
    typed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(Problem) as refused:
        fen_of(typed)
    assert refused.value.code == "amount-out-of-range"
    monkeypatch.setenv("HEADEND_LANG", "zh")
    with pytest.raises(Problem) as refused:
        fen_of(typed)
    assert not re.search("[a-df-z]{3}", refused.value.text("zh").replace(typed, ""))


def test_the_second_person_goes_with_a_decision(monkeypatch: pytest.MonkeyPatch) -> None:
    """Above the limit `headend resolve` and `command --cancel` are of no use without one."""
    seen: list[tuple[str, dict[str, str] | None]] = []

    def send(
        _client: Client, _method: str, path: str, _body: object, headers: dict[str, str] | None
    ) -> dict[str, str]:
        seen.append((path.rsplit("/", 1)[1], headers))
        return {"kind": "top_up", "meter": "M1", "state": "confirmed"}

    monkeypatch.setattr(Client, "send", send)
    monkeypatch.setattr(Client, "ask", lambda *_, **__: {})
    number = "8d1a74ea-5f6c-4f0e-8569-f7c6468c784a"
    for token in ("", "he_second"):
        monkeypatch.setenv("HEADEND_APPROVER_TOKEN", token)
        resolve(Settings(), number, "seen", carried_out=True, as_json=False)
        command(Settings(), number, cancel="wrong room", as_json=True)
    second = {"x-approver-token": "he_second"}
    assert seen == [("decide", {}), ("cancel", {}), ("decide", second), ("cancel", second)]


def test_a_sale_in_the_dark_is_followed_until_the_light_is_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The top-up ends first; its fourth stage is the restore that follows it."""
    steps = [
        ("sale", "top_up", "queued", "paid"),
        ("sale", "top_up", "confirmed", "in_meter"),
        ("light", "restore", "queued", None),
        ("light", "restore", "late", None),
        ("light", "restore", "confirmed", "light_on"),
    ]
    events = [
        {"event_id": number, "command_id": which, "kind": kind, "to": to, "stage": stage}
        | {"at": "2026-11-27T14:10:17", "note": ""}
        for number, (which, kind, to, stage) in enumerate(steps)
    ]
    shown = iter([1, 3, 4, 5])

    def ask(*_: object, **__: object) -> dict[str, object]:
        seen = next(shown)
        return {"state": "queued" if seen == 1 else "confirmed", "events": events[:seen]}

    monkeypatch.setenv("HEADEND_LANG", "en")
    monkeypatch.setattr(Client, "send", lambda *_, **__: {})
    monkeypatch.setattr(Client, "ask", ask)
    monkeypatch.setattr(orders, "LOOK_S", 0.0)
    topup(Settings(), "M1", "50", None, wait=True, as_json=False)
    assert "light on" in capsys.readouterr().out
    assert next(shown, None) is None
    shown = iter([3] * 9_999)
    monkeypatch.setattr(orders, "FOLLOW_S_MAX", 0)
    topup(Settings(), "M1", "50", None, wait=True, as_json=False)
    assert "No light yet" in capsys.readouterr().out
