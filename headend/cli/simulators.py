"""`headend simulate`: two programs of their own, neither of which the product imports.

With --seeds, --seed or --mutations the trial of money: the product's own sender and ledger, lived
through on virtual time with faults and crashes, judged by the simulated meters. Otherwise the
simulators: meters, lines and a whole property for anybody's head-end.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence

_OF_THE_TRIAL = ("--seeds", "--seed", "--mutation", "--mutations", "--first")


def run(arguments: Sequence[str]) -> int:
    """Run the program these arguments mean; its exit code."""
    is_trial = any(argument.partition("=")[0] in _OF_THE_TRIAL for argument in arguments)
    module = "headend.trial" if is_trial else "simulators"
    code = subprocess.call([sys.executable, "-m", module, *arguments])
    if "--help" in arguments and not is_trial:
        subprocess.call([sys.executable, "-m", "headend.trial", "--help"])
    return code
