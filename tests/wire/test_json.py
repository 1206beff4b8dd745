"""The raw-field editor: it changes what it should and not a byte more, whatever the JSON around it."""

from __future__ import annotations

import json
import time
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.wire.json import Field, find_fields, insert_field, remove_field, replace_field, set_field

VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6) | st.sampled_from(["model", '"', "\\", "}"]), inner, max_size=4),
    max_leaves=12,
)
OBJECTS: st.SearchStrategy[dict[str, Any]] = st.dictionaries(
    st.text(max_size=6) | st.sampled_from(["model", "a\\", "mode\u00e9"]), VALUES, max_size=6
)
LAYOUTS = st.sampled_from([{"separators": (",", ":")}, {"indent": 1}, {"indent": "\t", "ensure_ascii": False}, {"separators": (" ,\r\n", " : ")}])


@given(OBJECTS, VALUES, LAYOUTS, st.sampled_from([b"", b" \n", b"\t"]))
def test_replacing_a_field_changes_its_value_and_nothing_else(fields: dict[str, Any], value: Any, layout: dict[str, Any], space: bytes) -> None:
    fields["model"] = value
    body = space + json.dumps(fields, **layout).encode() + space
    (field,) = find_fields(body, ("model",))
    changed = replace_field(body, "model", b'"N"')
    assert json.loads(body[field.start : field.end]) == value
    assert changed == body[: field.start] + b'"N"' + body[field.end :]
    assert json.loads(changed) == {**fields, "model": "N"}


@given(OBJECTS, LAYOUTS)
def test_every_field_is_found_in_order(fields: dict[str, Any], layout: dict[str, Any]) -> None:
    body = json.dumps(fields, **layout).encode()
    found = find_fields(body, list(fields))
    assert [field.name for field in found] == list(fields)
    assert [json.loads(body[field.start : field.end]) for field in found] == list(fields.values())


@given(OBJECTS, VALUES, LAYOUTS)
def test_inserting_puts_the_field_behind_the_brace(fields: dict[str, Any], value: Any, layout: dict[str, Any]) -> None:
    fields.pop("new", None)
    body = json.dumps(fields, **layout).encode()
    changed = insert_field(body, "new", json.dumps(value).encode())
    assert json.loads(changed) == {"new": value, **fields}
    assert changed.startswith(b'{"new":')
    assert changed.endswith(body[1:])


@given(st.lists(st.sampled_from(["gone", "a", "b"]), max_size=5), VALUES, LAYOUTS, st.sampled_from([b"", b" \n"]))
def test_removing_a_field_takes_its_comma_with_it(names: list[str], value: Any, layout: dict[str, Any], space: bytes) -> None:
    members = [json.dumps({name: [number, value]}, **layout)[1:-1] for number, name in enumerate(names)]
    body = space + b"{ " + ",".join(members).encode() + b" }" + space
    changed = remove_field(body, "gone")
    pairs: list[tuple[str, Any]] = json.loads(changed, object_pairs_hook=lambda found: found)
    assert [name for name, _ in pairs] == [name for name in names if name != "gone"]
    assert [held[0] for _, held in pairs] == [number for number, name in enumerate(names) if name != "gone"]
    assert all(member.strip().encode() in changed for name, member in zip(names, members, strict=True) if name != "gone")
    if "gone" not in names:
        assert changed == body


def test_removing_touches_nothing_inside() -> None:
    assert remove_field(b'{"a":1, "gone" : {"gone":2} , "b":{"gone":3}}', "gone") == b'{"a":1 , "b":{"gone":3}}'
    assert remove_field(b'{ "gone":1, "a":2 }', "gone") == b'{ "a":2 }'
    assert remove_field(b'{"gone":1,"gone":2}', "gone") == b"{}"


@given(st.binary() | st.text().map(str.encode) | st.text(alphabet='{}[]",:\\ a1').map(str.encode))
def test_no_bytes_make_it_raise_anything_but_value_error(body: bytes) -> None:
    for edit in (replace_field, insert_field, set_field):
        with suppress(ValueError):
            edit(body, "a", b"1")
    with suppress(ValueError):
        remove_field(body, "a")


def test_all_occurrences_of_a_duplicated_key_are_replaced_and_those_inside_are_not() -> None:
    body = b'{"model": "a" , "x":{"model":"in"},"y":["model",{"model":1}], "mod\\u0065l":{"model":"z"} ,"model":null}'
    assert replace_field(body, "model", b'"N"') == (b'{"model": "N" , "x":{"model":"in"},"y":["model",{"model":1}], "mod\\u0065l":"N" ,"model":"N"}')


@pytest.mark.parametrize(
    ("body", "value"),
    [
        (b'{"model":"a\\\\"}', b'"a\\\\"'),
        (b'{"model":"a\\""}', b'"a\\""'),
        (b'{"x":"\\\\\\"","model":"\\\\"}', b'"\\\\"'),
        (b'{"x":"}","model":-1.5e+3 }', b"-1.5e+3"),
        (b'{"x":"a \\"model\\": \\"b\\"","model":true}', b"true"),
        (b'{"x":[{"a":"]}"},[]],"model":[ ]}', b"[ ]"),
        ('{"\u00fc":"\u2028","model":"\u00e4"}'.encode(), '"\u00e4"'.encode()),
        (b'{"\\ud800":1,"model":2}', b"2"),
    ],
)
def test_values_end_where_they_end(body: bytes, value: bytes) -> None:
    (field,) = find_fields(body, ("model",))
    assert body[field.start : field.end] == value


@pytest.mark.parametrize(
    "body", [b"", b"[]", b'"model"', b"null", b"{", b'{"model"', b'{"model":', b'{"model":"a', b'{"a":1 "model":2}', b'{"a":[}', b"{]"]
)
def test_what_is_no_object_raises_value_error(body: bytes) -> None:
    with pytest.raises(ValueError):
        replace_field(body, "model", b"1")


def test_an_absent_field_raises_and_can_be_set() -> None:
    with pytest.raises(ValueError, match="model"):
        replace_field(b"{}", "model", b"1")
    assert set_field(b"{}", "model", b"1") == b'{"model":1}'
    assert set_field(b' { "a":1}', "model", b"1") == b' {"model":1, "a":1}'
    assert set_field(b'{"model":5 ,"a":1}', "model", b"1") == b'{"model":1 ,"a":1}'


def test_a_nested_object_is_edited_in_its_span() -> None:
    body = b'{"a":{"b":1},"c":{"b":2}}'
    (inner,) = find_fields(body, ("c",))
    assert inner == Field("c", 17, 24)
    assert set_field(body, "b", b"3", inner.start) == b'{"a":{"b":1},"c":{"b":3}}'
    assert insert_field(body, "d", b"3", inner.start) == b'{"a":{"b":1},"c":{"d":3,"b":2}}'


def test_time_grows_with_the_length_and_not_with_its_square() -> None:
    plain = {"messages": [{"role": "user", "content": "hello world\n" * 60}] * 1400, "model": "x"}
    quoted = {"messages": [{"role": "user", "content": 'say "x" \\ ' * 100}] * 700, "model": "x"}
    for fields in (plain, quoted):
        body = json.dumps(fields).encode()
        started = time.process_time()
        replace_field(body, "model", b'"y"')
        assert time.process_time() - started < 2  # of the processor; about 0.005, whereas beginning anew with each field takes many times that
