"""Who may sign in at the desk of the demonstration: one of each role, one password for all."""

from __future__ import annotations

import secrets
from typing import Final

from headend.domain.roles import Role
from headend.services.services import Services
from headend.services.sign_in import set_password
from headend.store import people

DEMO_PEOPLE: Final = (
    ("manager", Role.MANAGER),
    ("colleague", Role.MANAGER),  # the second person
    ("cashier", Role.CASHIER),
    ("technician", Role.TECHNICIAN),
    ("auditor", Role.AUDITOR),
    ("admin", Role.ADMIN),
)


async def people_of_demo(services: Services) -> str:
    """Make them; returns their password, which is another one each time."""
    password = secrets.token_urlsafe(9)
    at = services.clock.now()
    async with services.database.transaction() as tx:
        for name, role in DEMO_PEOPLE:
            made = await people.add_operator(tx, name, role, at=at)
            known = made or await people.find_operator(tx, name)
            assert known is not None
            await set_password(tx, known, password, services.clock, by=None)
    return password
