"""What was let in is what the provider reads: names that only case tells apart from `model`, models that are named twice, and
lists of models beside the model."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from penstock.admission.budget.spec import make_budget
from penstock.admission.limits.spec import make_limit, parse_limit
from penstock.admission.rules import All, make_test
from penstock.admission.settings import AdmissionSettings
from penstock.exchange.conduct import Conduct
from penstock.exchange.naming import misnamed
from penstock.policy.guards import Guard, Guards
from penstock.routing import Glob, Route
from penstock.vocabulary.ids import ProtocolId
from tests.exchange.test_admitting import BEARER, a_rule
from tests.support.admitted import KEY, Admitted, key
from tests.support.exchanges import House, told_whole
from tests.support.guards import MASKING, REJECTING, all_rules

PATHS = {
    "/v1/chat/completions": ProtocolId.OPENAI_CHAT, "/v1/responses": ProtocolId.OPENAI_RESPONSES, "/v1/messages": ProtocolId.ANTHROPIC_MESSAGES,
    "/v1/embeddings": ProtocolId.OPENAI_CHAT, "/openai/v1/chat/completions": ProtocolId.OPENAI_CHAT, "/v1/moderations": ProtocolId.OPENAI_CHAT,
}  # fmt: skip
BODIES = [
    b'{"model":"m","Model":"big","messages":[]}', b'{"MODEL":"big","model":"m","messages":[]}', b'{"model":"m","\\u004dodel":"big"}',
    b'{"model":"m","mod\\u0045l":"big"}', b'{"model":"big","model":"m"}', b'{"model":"big","\\u006dodel":"m"}', b'{ "mOdel" : null , "model":"m"}',
]
TWICE = BODIES[4:6]
OTHER = Guards([Guard("other", all_rules())])
ON_MODEL = All((make_test("model", ["big"]),))
DEPENDS: dict[str, Callable[[], Admitted]] = {
    "a key's models": lambda: Admitted(keys={KEY: key(models=("m",))}),
    "a rule": lambda: Admitted(AdmissionSettings(rules=(a_rule("deny", model="big"),)), keys={KEY: key()}),
    "a limit": lambda: Admitted(AdmissionSettings(limits=(make_limit("requests", 9, "day", by=["model"]),)), keys={KEY: key()}),
    "when a limit holds": lambda: Admitted(AdmissionSettings(limits=(make_limit("requests", 9, "day", when=ON_MODEL),)), keys={KEY: key()}),
    "a budget": lambda: Admitted(AdmissionSettings(budgets=(make_budget("tokens", "99999999", "day", by=["model"]),)), keys={KEY: key()}),
    "money": lambda: Admitted(AdmissionSettings(budgets=(make_budget("money", "99", "day"),)), keys={KEY: key()}),
}
FREE: dict[str, Callable[[], Admitted]] = {
    "a key": lambda: Admitted(keys={KEY: key(limits=(parse_limit("requests=9/day"),))}),
    "a limit": lambda: Admitted(AdmissionSettings(limits=(make_limit("requests", 9, "day", by=["key"]),)), keys={KEY: key()}),
    "a rule": lambda: Admitted(AdmissionSettings(rules=(a_rule("deny", user="eve"),)), keys={KEY: key()}),
}


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("body", BODIES)
@pytest.mark.parametrize("why", DEPENDS)
def test_where_something_depends_on_the_model_no_server_may_read_another(why: str, body: bytes, path: str) -> None:
    with DEPENDS[why]() as a:
        asker = a.house.post(path, body, BEARER)
        reply, row = asker.reply, a.house.row()
        assert (reply.status, row.outcome, a.house.asks) == (400, "REFUSED", [])
        assert b"model" in reply.body
        assert b"big" not in reply.body
        told_whole(PATHS[path], reply)
        a.house.post(path, b'{"model": "m", "metadata": {"Model": "x"}, "tools": [{"model": 1}], "user": "\\u0041"}', BEARER).leave()
        assert len(a.house.asks) == 1, "in what lies deeper nobody looks for a model"
        a.check()


@pytest.mark.parametrize("body", BODIES)
@pytest.mark.parametrize("why", FREE)
def test_where_nothing_does_it_passes_as_it_came(why: str, body: bytes) -> None:
    with FREE[why]() as a:
        a.house.post("/v1/chat/completions", body, BEARER).leave()
        assert a.house.last.rest.endswith(b"\r\n\r\n" + body)


@pytest.mark.parametrize("body", BODIES)
@pytest.mark.parametrize("route", [None, Route(Glob("*"), "openai"), Route(Glob("m*"), "openai"), Route(Glob("*"), "openai", rename="small")])
def test_routes(route: Route | None, body: bytes) -> None:
    with House(routes=[route] if route is not None else []) as house:
        asker = house.post("/v1/chat/completions", body)
        renamed = route is not None and route.rename is not None
        if route is None or (route.model.text == "*" and not renamed):
            assert house.last.rest.endswith(b"\r\n\r\n" + body)
        elif renamed and body in TWICE:
            sent = json.loads(house.last.rest.partition(b"\r\n\r\n")[2], object_pairs_hook=list)
            assert {value for name, value in sent if name == "model"} == {"small"}
        else:
            assert (asker.reply.status, house.asks) == (400, [])


@pytest.mark.parametrize("front", [
    "/openai/openai/deployments", "/openai/openai/Deployments", "/openai/openai/%64eployments", "/openai/openai/deployments/",
])  # fmt: skip
def test_a_deployment_in_the_path_is_the_model(front: str) -> None:
    """Azure takes it by the path, and passes over what the body says."""
    with Admitted(keys={KEY: key(models=("m",))}) as a:
        asker = a.house.post(f"{front}/big/chat/completions", b'{"model":"m","messages":[]}', BEARER)
        assert (asker.reply.status, a.house.asks) == (400, [])
        asker = a.house.post(f"{front}/big/chat/completions", b'{"model":"big","messages":[]}', BEARER)
        assert (asker.reply.status, a.house.asks) == (403, [])
        asker = a.house.post(f"{front}/m/chat/completions", b'{"messages":[]}', BEARER)
        assert (asker.reply.status, a.house.asks) == (403, []), "what the path alone names is not known, and the key names models"
        a.house.post(f"{front}/m/chat/completions", b'{"model":"m","messages":[]}', BEARER).leave()
        assert len(a.house.asks) == 1
    with Admitted(keys={KEY: key()}) as a:
        a.house.post(f"{front}/big/chat/completions", b'{"model":"m","messages":[]}', BEARER).leave()
        assert len(a.house.asks) == 1
    with Admitted(AdmissionSettings(budgets=(make_budget("money", "99", "day"),)), keys={KEY: key()}) as a:
        a.house.post(f"{front}/big/chat/completions", b'{"messages":[]}', BEARER).leave()
        assert len(a.house.asks) == 1


# -- a list of models beside the model ----------------------------------------------------------------------------------------------------

CALLS = ["/v1/chat/completions", "/v1/responses", "/openai/v1/chat/completions", "/v1/completions"]
LISTS = [
    b'{"model":"m","models":["m","big"],"route":"fallback","messages":[]}', b'{"models":["big"],"model":"m"}',
    b'{"model":"m","mod\\u0065ls":["big"]}',
    b'{"model":"m","models":["big"],"models":["m"]}', b'{"model":"m","models":[null,"big"]}', b'{"model":"m","models":["\\u0062ig"]}',
]
UNREADABLE = [b"[" * 979 + b"]" * 979, b"[" + b"1" * 5000 + b"]", b'["\xff"]']
HARMLESS = [
    b'{"model":"m","models":["m"]}', b'{"model":"m","models":[]}', b'{"model":"m","models":null}', b'{"model":"m","models":"big"}',
    b'{"model":"m","models":[{"a":"big"}]}', b'{"model":"m","metadata":{"models":["big"]}}',
]
PERMITS: dict[str, Callable[[], Admitted]] = {
    "a key's models": lambda: Admitted(keys={KEY: key(models=("m*",))}),
    "a rule that denies": DEPENDS["a rule"],
    "a rule that allows": lambda: Admitted(AdmissionSettings(rules=(a_rule("allow", model="m*"),)), keys={KEY: key()}),
    "a rule that requires": lambda: Admitted(AdmissionSettings(rules=(a_rule("require", model="m*"),)), keys={KEY: key()}),
    "money": lambda: Admitted(
        AdmissionSettings(rules=(a_rule("deny", model="big"),), budgets=(make_budget("money", "99", "day"),)), keys={KEY: key()}),
}
COUNTS = ["a limit", "when a limit holds", "a budget"]


@pytest.mark.parametrize("path", CALLS)
@pytest.mark.parametrize("body", LISTS)
@pytest.mark.parametrize("why", PERMITS)
def test_each_model_of_a_list_is_one_that_the_caller_may_use(why: str, body: bytes, path: str) -> None:
    with PERMITS[why]() as a:
        asker = a.house.post(path, body, BEARER)
        reply, row = asker.reply, a.house.row()
        assert (reply.status, row.outcome, a.house.asks) == (403, "REFUSED", [])
        assert row.refused_by == ("key" if "key" in why else "rule")
        assert b"big" not in reply.body
        for allowed in (body.replace(b"big", b"m-2").replace(b"\\u0062ig", b"m-2"), *HARMLESS):
            a.house.post(path, allowed, BEARER).leave()
            assert a.house.last.rest.endswith(b"\r\n\r\n" + allowed)
        a.check()


@pytest.mark.parametrize("path", CALLS)
@pytest.mark.parametrize("body", LISTS)
@pytest.mark.parametrize("why", COUNTS)
def test_where_limits_or_budgets_are_kept_by_the_model_one_is_asked_for(why: str, body: bytes, path: str) -> None:
    with DEPENDS[why]() as a:
        asker = a.house.post(path, body, BEARER)
        assert (asker.reply.status, a.house.row().outcome, a.house.asks) == (400, "REFUSED", [])
        assert b"Ask for one model" in asker.reply.body
        for allowed in HARMLESS:
            a.house.post(path, allowed, BEARER).leave()
            assert a.house.last.rest.endswith(b"\r\n\r\n" + allowed)
        a.check()


@pytest.mark.parametrize("body", [*LISTS, *HARMLESS])
@pytest.mark.parametrize("why", [*FREE, "money"])
def test_where_nothing_depends_on_it_a_list_passes_as_it_came(why: str, body: bytes) -> None:
    with (FREE[why] if why in FREE else DEPENDS[why])() as a:
        a.house.post("/v1/chat/completions", body, BEARER).leave()
        assert a.house.last.rest.endswith(b"\r\n\r\n" + body)


def test_of_other_paths_a_list_is_no_models() -> None:
    with Admitted(keys={KEY: key(models=("m",))}) as a:
        body = b'{"model":"m","models":["big"],"input":"x"}'
        a.house.post("/v1/embeddings", body, BEARER).leave()
        assert a.house.last.rest.endswith(body)


@pytest.mark.parametrize("body", LISTS)
@pytest.mark.parametrize(("routes", "passes"), [
    ([], True),
    ([Route(Glob("*"), "openai")], True),
    ([Route(Glob("m*"), "openai"), Route(Glob("*"), "openai")], True),
    ([Route(Glob("m*"), "openai")], True),
    ([Route(Glob("m*"), "anthropic"), Route(Glob("m*"), "openai"), Route(Glob("big"), "openai")], True),
    ([Route(Glob("m*"), "openai"), Route(Glob("*"), "anthropic")], False),
    ([Route(Glob("m*"), "openai"), Route(Glob("*"), "openai", rename="small")], False),
    ([Route(Glob("*"), "openai", rename="small")], False),
    ([Route(Glob("*"), "openai", rename="m")], False),
])  # fmt: skip
def test_each_model_of_a_list_goes_the_same_way(routes: list[Route], passes: bool, body: bytes) -> None:
    with House(routes=routes) as house:
        asker = house.post("/v1/chat/completions", body)
        if passes:
            assert house.last.rest.endswith(b"\r\n\r\n" + body)
        else:
            assert (asker.reply.status, house.asks) == (400, [])
            assert b"another way" in asker.reply.body
        house.post("/v1/chat/completions", HARMLESS[0]).leave()
        assert len(house.asks) == 1 + passes


@pytest.mark.parametrize(("own", "others", "passes"), [
    (None, None, True), (MASKING, MASKING, True), (None, MASKING, False), (REJECTING, None, False), (OTHER, MASKING, False),
])  # fmt: skip
def test_each_model_of_a_list_is_under_the_same_guards(own: Guards | None, others: Guards | None, passes: bool) -> None:
    routes = [Route(Glob("m*"), "openai"), Route(Glob("*"), "openai")]
    with House(routes=routes, route_conduct=[Conduct(guards=own), Conduct(guards=others)]) as house:
        asker = house.post("/v1/chat/completions", LISTS[0])
        assert (len(house.asks), asker.reply.status) == ((1, None) if passes else (0, 400))


@pytest.mark.parametrize("front", ["", "/openai"])
def test_where_somebody_is_admitted_each_model_of_a_list_goes_by_the_same_route(front: str) -> None:
    """Keys, rules, limits and modes may all be of a route; a provider's own path has none."""
    with Admitted(keys={KEY: key(routes=("m*",) if not front else ())}, routes=[Route(Glob("m*"), "openai"), Route(Glob("*"), "openai")]) as a:
        asker = a.house.post(f"{front}/v1/chat/completions", LISTS[0], BEARER)
        assert (len(a.house.asks), asker.reply.status) == ((1, None) if front else (0, 400))


def test_what_is_asked_of_a_model_in_the_path_names_none_in_its_body() -> None:
    with Admitted(keys={KEY: key(models=("m",))}) as a:
        body = b'{"contents":[{"role":"model","parts":[{"text":"x"}]}],"Model":"x"}'
        a.house.post("/v1beta/models/m:generateContent", body, [(b"x-goog-api-key", KEY.encode())]).leave()
        assert a.house.last.rest.endswith(body)


@pytest.mark.parametrize("body", [
    b"{}", b'{"model":"m"}', b'{"model":"m","messages":[{"role":"model","content":"\\"Model\\": \\"big\\""}]}', b'{"a":"\\u0041","model":"m"}',
    b'{"modeL\\u0000":1,"model":"m"}', b'{"models":["a"],"model":"m"}', b"[]", b'"Model"', b"", b'{"x":{"Model":1},"model":"m"}',
])  # fmt: skip
def test_what_names_one_model(body: bytes) -> None:
    assert misnamed(body, renamed=False) is None


@pytest.mark.parametrize("depth", range(960, 1000))
def test_a_list_that_is_nested_too_deep_hides_none_behind_it(depth: int) -> None:
    """However deep the stack is at the moment: it is read, or refused."""
    with Admitted(keys={KEY: key(models=("m",))}) as a:
        body = b'{"model":"m","models":' + b"[" * depth + b"]" * depth + b',"models":["big"],"messages":[]}'
        asker = a.house.post(CALLS[0], body, BEARER)
        assert asker.reply.status in (400, 403)
        assert not a.house.asks


@pytest.mark.parametrize("path", CALLS)
@pytest.mark.parametrize("value", UNREADABLE)
def test_a_list_that_cannot_be_read_hides_none_behind_it(path: str, value: bytes) -> None:
    with Admitted(keys={KEY: key(models=("m",))}) as a:
        asker = a.house.post(path, b'{"model":"m","models":' + value + b',"models":["big"],"messages":[]}', BEARER)
        assert asker.reply.status in (400, 403)
        assert not a.house.asks
