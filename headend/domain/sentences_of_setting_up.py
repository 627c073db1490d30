"""What setting a property up in the browser says no to. See sentences.py."""

from __future__ import annotations

from collections.abc import Mapping

from headend.domain.problem_kinds import Kind

SETTING_UP: Mapping[str, tuple[Kind, str, str]] = {
    "site-exists": (
        Kind.REFUSED,
        "There is a property called {site} already, and it was not changed: choose another name, "
        "or go on with that one.",
        "已有名为 {site} 的物业，未作任何更改：请换一个名称，或继续设置该物业。",
    ),
}
