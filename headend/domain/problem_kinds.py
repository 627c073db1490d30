"""The families of causes: each has its exit code and its HTTP status."""

from __future__ import annotations

import enum


class Kind(enum.Enum):
    """The cause's family: (exit code of the CLI, HTTP status of the API)."""

    SETTINGS = (3, 422)  # a file or option the person wrote
    DATABASE = (4, 503)
    LINE = (5, 503)  # port, converter, DTU
    METER = (6, 504)  # the line works, the meter did not give what was asked
    NOT_RUNNING = (7, 503)  # no head-end answers
    BUSY = (8, 409)  # something else holds it: port, folder, device
    NOT_FOUND = (9, 404)
    RESULT = (10, 500)  # the job ran, its result is not what was promised
    PERMISSION = (11, 403)
    REFUSED = (12, 409)  # understood, and not done: a rule says no
    CHANGED = (14, 412)  # the thing changed between the look and the edit
    UNAUTHORISED = (13, 401)  # nobody we know asks
    BLIND = (15, 428)  # an edit by somebody who has not looked

    @property
    def exit_code(self) -> int:
        return self.value[0]

    @property
    def http_status(self) -> int:
        return self.value[1]
