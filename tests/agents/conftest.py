"""Real agents as clients: collected only by `make agents`, which installs them and says in PENSTOCK_AGENTS where."""

from __future__ import annotations

import os

collect_ignore_glob = [] if os.environ.get("PENSTOCK_AGENTS") else ["test_*.py"]
