"""`penstock` with other times in its ledger: `serve_hurried.py '{"lease_s": 1.0}' serve --config FILE`. There is no setting for a lease,
because two gateways that disagree about it would settle each other's rows."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from typing import Any
from unittest.mock import patch

from penstock import app, cli
from penstock.ledger.settings import LedgerSettings


def hurried(*arguments: Any, **named: Any) -> LedgerSettings:
    return replace(LedgerSettings(*arguments, **named), **json.loads(sys.argv[1]))


if __name__ == "__main__":
    with patch.object(app, "LedgerSettings", hurried):
        cli.app(args=sys.argv[2:])
