"""Master meters in a site file: who measures whose energy once more, and no circle among them."""

from __future__ import annotations

from collections.abc import Mapping

from headend.domain.site_tables import Table


class Masters:
    """Remembers which table named which master, until every meter of the file is known."""

    def __init__(self) -> None:
        self._named: list[tuple[Table, str]] = []

    def of(self, table: Table) -> str | None:
        """The master this meter or cabinet names; None: it names none."""
        master = table.optional_text("master")
        if master is not None:
            self._named.append((table, master))
        return master

    def check(self, masters: Mapping[str, str | None]) -> None:
        """Every master is a meter of the file and none hangs below itself; by meter's name.

        Raises BadPlace.
        """
        for table, master in self._named:
            if master not in masters:
                raise table.bad("master", table.unknown("meter", master, masters))
            above: str | None = master
            seen = set()
            while above is not None and above not in seen:
                seen.add(above)
                above = masters[above]
                if above == master:
                    raise table.bad(
                        "master",
                        f"{table.who} names the master meter {master}, which would hang below "
                        "itself; a master stands above its circuits",
                    )
