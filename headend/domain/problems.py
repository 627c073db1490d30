"""What went wrong, said to people: one sentence, a stable code, Chinese and English.

A Problem is raised where the cause is known and shown where a person looks: the CLI prints the
sentence and ends with the exit code of its kind, the API answers with problem+json. The code never
changes once published; sentences may.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping

from headend.domain.problem_kinds import Kind
from headend.domain.sentences import GENERAL
from headend.domain.sentences_of_account_files import ACCOUNT_FILES
from headend.domain.sentences_of_accounts import ACCOUNTS
from headend.domain.sentences_of_alarms import ALARMS
from headend.domain.sentences_of_backups import BACKUPS
from headend.domain.sentences_of_broker import BROKER
from headend.domain.sentences_of_cards import CARDS
from headend.domain.sentences_of_desk import DESK
from headend.domain.sentences_of_money import MONEY
from headend.domain.sentences_of_prices import PRICES
from headend.domain.sentences_of_reports import REPORTS
from headend.domain.sentences_of_setting_up import SETTING_UP
from headend.domain.sentences_of_terminals import TERMINALS

__all__ = ["CATALOG", "Kind", "Problem", "language_of_terminal"]


_PARTS = (
    GENERAL,
    MONEY,
    DESK,
    CARDS,
    SETTING_UP,
    PRICES,
    REPORTS,
    BROKER,
    ACCOUNTS,
    ACCOUNT_FILES,
    ALARMS,
    BACKUPS,
    TERMINALS,
)
CATALOG: Mapping[str, tuple[Kind, str, str]] = {
    code: sentence for part in _PARTS for code, sentence in part.items()
}
assert len(CATALOG) == sum(map(len, _PARTS)), "a code has one sentence"


class Problem(Exception):
    """One thing that went wrong, as a person should hear it.

    `code` is a key of CATALOG; the facts fill its sentence. An unknown code or a missing fact is a
    programming error and fails at once.
    """

    def __init__(self, code: str, **facts: object) -> None:
        self.code = code
        self.kind, self.english, self.chinese = CATALOG[code]
        self.facts = facts
        super().__init__(self.text("en"))

    def text(self, language: str, tell: Callable[[str], str] | None = None) -> str:
        """The sentence in "zh" or (anything else) English; `tell` says its detail in it."""
        template = self.chinese if language.startswith("zh") else self.english
        facts = dict(self.facts)
        if tell is not None and "detail" in facts:
            facts["detail"] = tell(str(facts["detail"]))
        sentence = template.format(**facts)
        # A detail may bring its own full stop, and may be missing.
        sentence = sentence.replace(": .", ".").replace("：。", "。")
        return sentence.replace("..", ".").replace("。。", "。").replace(".。", "。")


def language_of_terminal() -> str:
    """ "zh" or "en": HEADEND_LANG first, then what the terminal says."""
    for variable in ("HEADEND_LANG", "LC_ALL", "LC_MESSAGES", "LANG"):
        value = os.environ.get(variable, "")
        if value:
            return "zh" if value.lower().startswith("zh") else "en"
    return "en"
