"""What an ending means for the people who run the gateway, and what they may change. Pure: one table, by outcome and by timer or cause.

`case_of` finds the line of the table by a row's columns, `ADVICE` holds the lines. The keys of the configuration that they name are those of
`docs/configuration.md`; a test holds that each exists. `{where}`, `{provider}`, `{silence}` and `{status}` are filled in by `story`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from penstock.vocabulary.outcome import EndedBy, Ending

_BOUNCED = re.compile(
    r"\bstreaming is (?:strongly recommended|required)\b|\bstream must be set to true\b|\bonly supports? stream(?:ing)? mode\b", re.IGNORECASE)
"""As `protocols.bounces` has it; rows hold a short message, and come from other versions too."""
SILENT_MS = 20_000.0
"""A client that leaves after such a silence probably left because of it: nobody else counts to less."""


@dataclass(frozen=True, slots=True)
class Advice:
    means: str
    """The verdict, one or two sentences."""
    change: tuple[str, ...] = ()
    """What to do, the best first; empty: nothing is to be done."""
    keys: tuple[str, ...] = ()
    """Keys of the configuration that `change` is about."""


_AGAIN = "Ask again: nothing is to be changed here."
_SLOW = "If such models are meant to take this long, raise {key} {where}."


def _timer(key: str, means: str, *more: str) -> Advice:
    return Advice(means, (*more, _SLOW.replace("{key}", f"`{key}`")), (f"timers.{key}",))


ADVICE: Mapping[str, Advice] = {
    "open": Advice("It has not ended: it is still running, or its process died less than a lease (15 s) ago."),
    "complete": Advice("The answer came to its end."),
    "truncated.frame": Advice(
        "The provider ended its answer inside an event: something on its side was cut off. The half event was not passed on; the client was "
        "told that the answer is not complete.", (_AGAIN, "If it happens at the same size or time again and again, a proxy before the provider "
        "cuts it: compare with a request that goes there directly.")),
    "truncated.nothing": Advice(
        "The provider answered, and ended its answer before its first event.", (
            _AGAIN, "If it happens often, let the gateway try again by itself: `retries.first_frame` {where} (the answer may have been billed)."),
        ("retries.first_frame",)),
    "truncated.finished": Advice(
        "The model had finished, but the provider closed without the event that ends a stream. So the answer is probably whole, and nothing says "
        "that it is.", ("If this provider never sends that event, say so: `terminal: finish_reason` on provider `{provider}`.",), ("terminal",)),
    "truncated.body": Advice("The connection ended before all of the body had come.", (_AGAIN,)),
    "truncated.kind": Advice(
        "What came was not what was asked for: a web page, or a whole body in the place of a stream.", (
            "Look at the base_url of provider `{provider}`: a page usually means that it is not the URL of the API, or that a proxy or login "
            "stands before it.",)),
    "truncated": Advice(
        "The provider closed its answer without the event that ends a stream, so an unknown part is missing.", (
            _AGAIN, "If it always happens after the same time, something between here and the provider limits how long an answer may take.")),
    "upstream_error.400": Advice("The provider refused the request itself: another try will not help.", (
        "Its message says which field it does not take. If the client is right, look for a route whose `provider` or `rename` sends the request to "
        "a model that knows the field.",)),
    "upstream_error.bounced": Advice("The provider refuses to answer this request without streaming.", (
        "Let the gateway ask for a stream and put the body together: `nonstream_mode: force` {where}, or `retry` to do so only after such a refusal "
        "(on Anthropic providers `anthropic_stream_mode`). Requests by `/{provider}/...` always go as they came.",),
        ("nonstream_mode", "anthropic_stream_mode")),
    "upstream_error.remade": Advice("The provider's answer could not be put into the form that the client asked for; it got an error.", (
        _AGAIN, "If it happens again and again, let it be asked as its clients ask: `nonstream_mode: passthrough` (or `pseudo_stream: false`) "
        "{where}."), ("nonstream_mode", "pseudo_stream")),
    "upstream_error.401": Advice("The provider did not take the credential.", (
        "Look at `api_key` of provider `{provider}`. Where it has none, the client's own key is passed on: then it is the client's that is wrong.",),
        ("api_key",)),
    "upstream_error.403": Advice("The provider knows the credential and does not allow this.", (
        "Look at what `api_key` of provider `{provider}` (or the client's own) may do: its project, its region, this model.",), ("api_key",)),
    "upstream_error.404": Advice("The provider does not know the model or the path.", (
        "Compare the model's name with the provider's list; a route's `rename` changes it. If every model is unknown, look at `base_url` of "
        "provider `{provider}`.",), ("rename", "base_url")),
    "upstream_error.413": Advice("The request is larger than the provider takes.", ("Send less: nothing is to be changed here.",)),
    "upstream_error.429": Advice("The provider limits how much may be asked, and the limit was reached.", (
        "Clients of the official kind wait and try again by themselves.",
        "For those that do not: `retries.status` {where}, or fewer at once with `max_streams`."), ("retries.status", "max_streams")),
    "upstream_error.5xx": Advice("The provider failed, or was overloaded, and said so.", (
        "Clients of the official kind try again by themselves.", "For those that do not: `retries.status` {where}."), ("retries.status",)),
    "upstream_error.status": Advice("The provider refused, with status {status}.", ("Its message says why.",)),
    "upstream_error": Advice("The provider said that it failed."),
    "upstream_error.notice": Advice(
        "The provider answered with 200, and what it said is a refusal (`notices`), most often of the user. The client was told an error.", (
            "Read the message that the client got: it holds the notice. Look at `user` of provider `{provider}`, or at the name that the client "
            "sends.",), ("user",)),
    "upstream_error.in_band": Advice(
        "The provider told an error inside an answer that it had begun. The client got it as it came.", (
            "Its type and message say why; overloaded models say it so. Ask again.",)),
    "upstream_error.untold": Advice(
        "The provider told an error inside an answer that it had begun with a good status. Nothing had gone to the client by then, so it got the "
        "error with a true status.", (
            "Its type and message say why; overloaded models say it so. Ask again.", "Where it comes as the first event of a stream, "
            "`retries.first_frame` {where} lets the gateway try again by itself."), ("retries.first_frame",)),
    "upstream_lost.tls": Advice("TLS with the provider failed.", (
        "If a proxy of your house opens TLS, name its certificate authority: `upstream.ca_file`.", "Else look at the clock of this machine and at "
        "`base_url` of provider `{provider}`."), ("upstream.ca_file", "base_url")),
    "upstream_lost.connect": Advice("No connection to the provider was made.", (
        "Look at `base_url` of provider `{provider}`, and whether this machine reaches it (`curl -v URL`).",
        "HTTPS_PROXY and NO_PROXY of the gateway's own environment count."), ("base_url",)),
    "upstream_lost.proxy": Advice("The proxy that the gateway's own environment names could not be used, or did not let the request through.", (
        "Look at HTTPS_PROXY (for http: HTTP_PROXY): its address, and its login where it answered 407. Only HTTP proxies are known.",
        "If `base_url` of provider `{provider}` is to be reached without it, name the host in NO_PROXY."), ("base_url",)),
    "upstream_lost.garbage": Advice("What the provider sent is not HTTP/1.1, or not in the coding that it names.", (
        "Look at the scheme and port in `base_url` of provider `{provider}`.",), ("base_url",)),
    "upstream_lost.head": Advice("The provider took the request, and the connection broke before any answer came.", (
        _AGAIN, "If it happens often, let the gateway try again by itself: `retries.first_frame` {where} (the request may have been billed).",
        "If it always happens after the same time, a proxy before the provider closes connections while the model thinks."),
        ("retries.first_frame",)),
    "upstream_lost": Advice("The connection to the provider broke inside its answer.", (
        _AGAIN, "If it always breaks after the same time, something between here and the provider limits how long an answer may take.")),
    "timed_out.connect": Advice("No connection to the provider was made in time.", (
        "Look whether this machine reaches it at all; behind a proxy, HTTPS_PROXY must be set for the gateway.",
        "On a slow line, raise `connect` {where}."), ("timers.connect",)),
    "timed_out.first_content": _timer(
        "first_content", "The provider sent no content in time: the model may have thought too long, or it hung.", _AGAIN),
    "timed_out.idle": _timer("idle", "The provider had begun its answer, and then sent nothing at all any more: no event, no ping.", _AGAIN),
    "timed_out.content": _timer(
        "content", "The provider went on to send, but only pings and the like, and no content any more: to others it looks alive.", _AGAIN),
    "timed_out.tool_call": _timer(
        "tool_call", "A tool call had begun and its arguments did not go on: the model, or the provider, hung inside the call. The client was "
        "told so instead of waiting for ever.", "Ask again. A half tool call is not to be run.",
        "Healthy models have been seen silent for up to 180 s inside a large argument; Claude Code and Codex give up after 300 s."),
    "timed_out.client_stall": Advice("The client took nothing for so long that it was given up.", (
        "Look at the client: it hangs, or it was suspended.", "If it is meant to wait, raise `client_stall` {where}."), ("timers.client_stall",)),
    "timed_out.drain": Advice("The gateway was stopping, and the answer did not end in time.", (
        "Raise `drain` {where} if such answers should be let to their end.",), ("timers.drain",)),
    "timed_out.max_duration": Advice("The exchange took longer than it may, by your own limit.", ("Raise `max_duration` {where}, or take it out.",),
                                     ("timers.max_duration",)),
    "timed_out.on_disconnect": Advice("The client had left, and the answer was read on for its usage as long as it may be.", (
        "Raise `on_disconnect.drain.seconds` {where} for truer figures.",), ("on_disconnect.drain.seconds",)),
    "timed_out": Advice("A timer of the gateway ran out."),
    "cut.large": Advice("The answer was larger than what may be held of one that is put into another form; the client got an error.", (
        "Raise `limits.assembly` (bodies from streams), `limits.max_frame` (streams from bodies), or `limits.held_total` (all together).",
        "Or have the provider asked as its clients ask: `nonstream_mode: passthrough` (or `pseudo_stream: false`) {where}."),
        ("limits.assembly", "limits.max_frame", "limits.held_total", "nonstream_mode", "pseudo_stream")),
    "cut.budget": Advice("A budget was spent while the answer was coming, and it cuts. What had come until then was charged.", (
        "It begins anew with its window; or raise it in `admission.budgets`, or for the key; `action: block` lets what runs go on to its end.",),
        ("admission.budgets",)),
    "cut.guard": Advice("A guard of this gateway rejected the answer; of what it rejected nothing was passed on.", (
        "If that was not meant, look at this guard under `guards`, or let it only count: `action: audit`.",
        "Where the cause says that it could not judge, or be judged, `on_error: open` lets such texts go."), ("guards",)),
    "cut": Advice("A policy of this gateway ended the answer."),
    "client_gone.silent": Advice(
        "The client closed its connection after {silence} in which nothing came from the provider. Clients seldom do that by themselves: most likely "
        "a balancer or proxy between client and gateway gave up (60 s is a usual limit), or the client's own timeout ran out.", (
            "Let the gateway say something sooner: `keepalive` {where}, below the other's limit; before the first event, `early_head`.",
            "Or raise the other's limit (nginx: proxy_read_timeout; AWS: idle timeout; SDKs: timeout)."), ("keepalive", "early_head")),
    "client_gone.waiting": Advice("The client closed its connection before anything of an answer had come.", (
        "Somebody interrupted it, or its timeout is shorter than this model takes to begin.",)),
    "client_gone": Advice("The client closed its connection while the answer was coming: somebody interrupted it, or it had enough.", (
        "Nothing is to be changed. For the true usage of such answers: `on_disconnect: drain` {where}.",), ("on_disconnect",)),
    "refused.400": Advice("The request was not understood, and no provider was asked.", (
        "The cause says what is wrong with it; routes whose provider speaks another protocol are told there too.",)),
    "refused.401": Advice("No token, or a wrong one: clients of this gateway must send its token.", (
        "Send it as the API key, or as x-penstock-token beside a key of your own. `token: auto` keeps it in the data directory.",), ("token",)),
    "refused.401.key": Advice("No key or token of this gateway's own was shown, or one that is not good.", (
        "`penstock keys list` shows the keys and their state; the cause says what is wrong with it.",)),
    "refused.403.guard": Advice("A guard of this gateway rejected the request, before a provider was asked.", (
        "If that was not meant, look at this guard under `guards`, or let it only count: `action: audit`.",
        "Where the cause says that it could not judge, `on_error: open` lets such texts go."), ("guards",)),
    "refused.403.rule": Advice("Who asked is known, and may not do this.", (
        "The cause names the rule of `admission.rules`, or what the key's own scope leaves out.",), ("admission.rules",)),
    "refused.429.limit": Advice("A limit on requests, tokens or open streams was reached.", (
        "Clients of the official kind try again by themselves; or raise it in `admission.limits`, or for the key.",), ("admission.limits",)),
    "refused.429.budget": Advice("A budget was spent, or set aside for what was running.", (
        "It begins anew with its window; or raise it in `admission.budgets`, or for the key.",), ("admission.budgets",)),
    "refused.403": Advice("The request named another host, or a web page of another one asked: such pages may want to reach this machine.", (
        "If the name is yours, add it to `hosts`.",), ("hosts",)),
    "refused.404": Advice("No such path, or no provider for this model and protocol.", (
        "Compare the path with the client's base URL (for OpenAI's SDKs it ends in /v1, for Anthropic's and Google's it does not), the model with "
        "`routes`.",), ("routes",)),
    "refused.405": Advice("This path takes another method.", ("Look at the client's base URL.",)),
    "refused.408": Advice("The request came too slowly and was given up.", ("On slow lines, raise `limits.body_gap` or `limits.head_time`.",),
                          ("limits.body_gap", "limits.head_time")),
    "refused.413": Advice("The request's body is larger than this gateway takes.", ("Raise `limits.body`.",), ("limits.body",)),
    "refused.415": Advice("The request's body is in a form that is not read here.", ("Send JSON, uncompressed.",)),
    "refused.422": Advice("An `Idempotency-Key` came again with another body, while its first request was under way or kept.", (
        "The client should send each key with one body. Where it cannot help it: `dedup: off` {where}.",), ("dedup",)),
    "refused.429": Advice("On one connection, more requests were sent before their answers than may wait.", (
        "Look at the client: it should wait for an answer, or open another connection.",)),
    "refused.431": Advice("The request's head is larger than this gateway takes.", ("Raise `limits.head` or `limits.head_fields`.",),
                          ("limits.head", "limits.head_fields")),
    "refused.503.stopping": Advice("The gateway was stopping.", ("Ask again; whoever balances should look at /ready of the admin plane.",)),
    "refused.503.ledger": Advice("The ledger could write neither to its database nor to its spill file, and no request is answered unaccounted.", (
        "Look at the disk of the data directory, and at `penstock logs collect --type diagnostics`.",)),
    "refused.503.bodies": Advice("As many request bodies were held as may be.", ("Raise `limits.peeked_total`.",), ("limits.peeked_total",)),
    "refused.503.connections": Advice("One client had as many connections open as it may.", (
        "Raise `limits.connections_per_client`: behind a proxy all clients have one address.",), ("limits.connections_per_client",)),
    "refused.503.budgets": Advice("The database did not tell in time what is left of the budgets, and some of them bind.", (
        "Ask again. If it happens often, look at the ledger's database. Budgets that only `audit` or `warn` (`admission.budgets`) refuse nobody.",),
        ("admission.budgets",)),
    "refused.503": Advice("As many exchanges were under way as may be.", (
        "Ask again; official clients do so by themselves.", "Or raise `max_streams` of what the cause names."), ("max_streams",)),
    "refused.401.user": Advice(
        "Each client names its own user here, in the place of a key, and this one named none (a login is no name).", (
            "Let the client send its user name as the API key; or, if all may ask under one name, set `user` on provider `{provider}` in the "
            "place of `user_from`.",), ("user", "user_from")),
    "refused.404.model": Advice(
        "The model's name was looked up in the provider's list, and is not in it. No other model was asked in its place.", (
            "`penstock models --provider {provider}` shows the names that there are; a route's `rename` gives one of them another name.",),
        ("rename",)),
    "refused.502": Advice(
        "The model's name had to be looked up in the provider's list, and the list could not be had.", (
            "`penstock check --probe` tells whether the provider answers. Its own names of models need no looking up.",)),
    "refused": Advice("The gateway refused the request; no provider was asked."),
    "shutdown": Advice("The gateway was stopped while the answer was coming. The client was told so.", (
        "Ask again. To let longer answers finish, raise `drain` {where}, and the patience of whatever stops the gateway.",), ("timers.drain",)),
    "crashed": Advice(
        "The process that held it died without a word (killed, out of memory, power), and its lease ran out.", (
            "Look at the system's log for that moment; `penstock exchanges --outcome CRASHED` shows what else it held.",)),
    "unverified.frame": Advice("One event was larger than may be held, so it was passed on without being understood, and nothing is claimed.", (
        "Raise `limits.max_frame`.",), ("limits.max_frame",)),
    "unverified.gateway": Advice("The gateway itself made a mistake.", (
        "Please report it, with what `penstock logs collect` packs.",)),
    "unverified": Advice("The answer was in a coding or form that is not read here: it was passed on as it was, and nothing is claimed."),
}  # fmt: skip


def case_of(row: Mapping[str, Any], silence_ms: float | None) -> str:
    """The key in `ADVICE` for a row. `silence_ms`: for how long nothing had come when it ended, as far as is known."""
    outcome, cause = row.get("outcome"), str(row.get("cause") or "")
    if outcome is None:
        return "open"
    base = str(outcome).lower()
    match outcome:
        case Ending.TRUNCATED:
            found = _truncated(row, cause)
        case Ending.UPSTREAM_ERROR:
            found = "notice" if "a notice instead of" in cause else _upstream_error(row, cause, str(row.get("error_message") or ""))
        case Ending.UPSTREAM_LOST:
            found = _upstream_lost(row, cause)
        case Ending.TIMED_OUT:
            found = str(row.get("timer") or cause.partition(":")[0])
        case Ending.CLIENT_GONE:
            silent = silence_ms is not None and silence_ms >= SILENT_MS
            found = "silent" if silent else "waiting" if row.get("upstream_status") is None else ""
        case Ending.REFUSED:
            found = _refused(row.get("status"), cause, row.get("ended_by"))
            if found == "gateway":
                return "unverified.gateway"
        case Ending.UNVERIFIED:
            found = "gateway" if row.get("ended_by") == EndedBy.GATEWAY else "frame" if "larger than what may be held" in cause else ""
        case Ending.CUT:
            large = "could not be put together" in cause or "could not be told as a stream" in cause
            judged = cause.startswith("guard ") or "could not be judged" in cause
            found = "guard" if judged else "large" if large else "budget" if cause.startswith("budget ") else ""
        case _:
            found = ""
    return f"{base}.{found}" if f"{base}.{found}" in ADVICE else base


def _truncated(row: Mapping[str, Any], cause: str) -> str:
    if "inside a frame" in cause:
        return "frame"
    if "not the stream that was asked for" in cause or "page of HTML" in cause:
        return "kind"
    if "inside the body" in cause:
        return "body"
    if "before its first event" in cause or row.get("events") == 0:
        return "nothing"
    chat = (row.get("upstream_protocol") or row.get("client_protocol")) == "openai_chat"
    return "finished" if chat and row.get("stop_reason") not in (None, "incomplete") else ""


def _upstream_error(row: Mapping[str, Any], cause: str, message: str) -> str:
    status, told = row.get("upstream_status"), row.get("status")
    if "could not be put together" in cause or "could not be told as a stream" in cause:
        return "remade"
    if not isinstance(status, int) or status < 400:
        return "untold" if isinstance(told, int) and told >= 400 else "in_band"
    if _BOUNCED.search(message):
        return "bounced"
    if status in (400, 422):
        return "400"
    return "5xx" if status >= 500 or status == 408 else str(status) if f"upstream_error.{status}" in ADVICE else "status"


def _upstream_lost(row: Mapping[str, Any], cause: str) -> str:
    if "TLS" in cause or "certificate" in cause:
        return "tls"
    if row.get("upstream_status") is None:
        if "proxy" in cause:
            return "proxy"
        if any(word in cause for word in ("refused the connection", "no connection", "host name", "connection was not made")):
            return "connect"
        return "head" if "closed" in cause or "reset" in cause or "given up" in cause else "garbage"
    return "garbage" if "is not the gzip" in cause else ""


def _refused(status: Any, cause: str, ended_by: Any) -> str:
    if status == 500 and ended_by == EndedBy.GATEWAY:
        return "gateway"
    if "no user is named" in cause:
        return "401.user"
    if "has no such model" in cause:
        return "404.model"
    if status == 503:
        words = ("shut", "stopping"), ("ledger", "ledger"), ("bodies", "bodies"), ("connections to", "connections"), ("budgets could not", "budgets")
        for word, found in words:
            if word in cause:
                return f"503.{found}"
    if status == 401 and ("key" in cause or "a token of" in cause):
        return "401.key"
    if status == 403 and cause.startswith("guard "):
        return "403.guard"
    if status == 403 and ("rule" in cause or "key" in cause):
        return "403.rule"
    if status == 429:
        return "429.limit" if cause.startswith("limit ") else "429.budget" if cause.startswith("budget ") else "429"
    return str(status)
