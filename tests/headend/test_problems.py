"""What people are told: two languages, the same facts, stable codes; and what settings refuse."""

from __future__ import annotations

import os
import string
from pathlib import Path

import pytest

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
