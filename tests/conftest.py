"""How hard Hypothesis tries: `ci` by default, so that the whole suite stays a matter of minutes; `HYPOTHESIS_PROFILE=thorough` for a long look.

Where `CI=true` says that a change is judged, the examples are the same in every run: whether it is accepted is no matter of chance. Everywhere else,
and in `make fuzz`, they are new each time.
"""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

_JUDGED = os.environ.get("CI") == "true"
settings.register_profile("ci", max_examples=30, deadline=None, derandomize=_JUDGED, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("thorough", max_examples=1000, deadline=None, derandomize=False, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))
