"""Asking the gateway that runs on this machine, over its admin plane, with the token of the data directory."""

from __future__ import annotations

import http.client
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

from penstock.cli.setup import fail

if TYPE_CHECKING:
    from penstock.config import Config

PATIENCE = 10.0
"""Seconds for an answer: the gateway may be busy, and it is near."""
_LARGEST = 1 << 20
_EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}


def ask_gateway(config: Config, method: str, path: str, body: bytes | None = None) -> dict[str, Any]:
    """What the running gateway answers to one request, as a JSON object. Where none runs, or it refuses: that, in words, and exit code 1."""
    from penstock.admin.token import TokenError, read_token

    address = config.admin
    if address.port == 0:
        fail("the admin plane is on any free port; name the one that `penstock serve` printed: --admin HOST:PORT")
    try:
        token = read_token(config.data_dir)
    except TokenError as error:
        fail(str(error))
    if token is None:
        remedy = "name its data directory with --data-dir, or start one: penstock serve"
        fail(f"no gateway runs on {config.data_dir}: there is no admin.token in it ({remedy})")
    status, answer = _exchange(_EVERYWHERE.get(address.host, address.host), address.port, token, method, path, body)
    if status == 401:
        fail(f"the gateway at {address} does not take the token of {config.data_dir}; name its own data directory with --data-dir")
    if status != 200:
        told = answer.get("error")
        message = cast("dict[str, Any]", told).get("message") if isinstance(told, dict) else None
        fail(str(message) if message else f"the gateway at {address} answered with status {status}", 2 if status == 400 else 1)
    return answer


def _exchange(host: str, port: int, token: str, method: str, path: str, body: bytes | None) -> tuple[int, dict[str, Any]]:
    shown = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    connection = http.client.HTTPConnection(host, port, timeout=PATIENCE)
    try:
        headers: Mapping[str, str] = {"authorization": f"Bearer {token}", **({"content-type": "application/json"} if body is not None else {})}
        connection.request(method, path, body, dict(headers))
        answer = connection.getresponse()
        found: object = json.loads(answer.read(_LARGEST))
        if not isinstance(found, dict):
            raise ValueError
        return answer.status, cast("dict[str, Any]", found)
    except ConnectionRefusedError:
        fail(f"no gateway runs: nothing listens at {shown}, its admin address (start one: penstock serve; or name another: --admin HOST:PORT)")
    except TimeoutError:
        fail(f"the gateway at {shown} did not answer within {PATIENCE:.0f} s")
    except OSError as error:
        fail(f"the gateway at {shown} cannot be reached: {error.strerror or error}")
    except (http.client.HTTPException, ValueError):
        fail(f"what listens at {shown} is no Penstock; name the gateway's admin address: --admin HOST:PORT")
    finally:
        connection.close()
