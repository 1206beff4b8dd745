"""Minutes, not seconds: collected only by `make soak`, which sets PENSTOCK_SOAK."""

from __future__ import annotations

import os

collect_ignore_glob = [] if os.environ.get("PENSTOCK_SOAK") else ["test_*.py"]
