"""`python -m headend.trial`."""

from __future__ import annotations

import sys

from headend.trial.run import main

sys.exit(main())
