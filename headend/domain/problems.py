"""What went wrong, said to people: one sentence, a stable code, Chinese and English.

A Problem is raised where the cause is known and shown where a person looks: the CLI prints the
sentence and ends with the exit code of its kind, the API answers with problem+json. The code never
changes once published; sentences may.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from headend.domain.problem_kinds import Kind
from headend.domain.sentences import GENERAL
from headend.domain.sentences_of_money import MONEY

__all__ = ["CATALOG", "Kind", "Problem", "language_of_terminal"]


CATALOG: Mapping[str, tuple[Kind, str, str]] = {**GENERAL, **MONEY}
assert len(CATALOG) == len(GENERAL) + len(MONEY), "a code has one sentence"


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

    def text(self, language: str) -> str:
        """The sentence in "zh" or (anything else) English."""
        template = self.chinese if language.startswith("zh") else self.english
        sentence = template.format(**self.facts)
        # A detail may bring its own full stop.
        return sentence.replace("..", ".").replace("。。", "。").replace(".。", "。")


def language_of_terminal() -> str:
    """ "zh" or "en": HEADEND_LANG first, then what the terminal says."""
    for variable in ("HEADEND_LANG", "LC_ALL", "LC_MESSAGES", "LANG"):
        value = os.environ.get(variable, "")
        if value:
            return "zh" if value.lower().startswith("zh") else "en"
    return "en"
