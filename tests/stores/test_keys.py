"""The life of a key: made, found, rotated, revoked, taken over; and what of it can be read anywhere."""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import sha256

import pytest
import sqlalchemy as sa

from penstock.admission.door import Door
from penstock.admission.keys import PREFIX, Ring, refused
from penstock.admission.settings import AdmissionSettings, Mode
from penstock.ledger.engine import open_engine
from penstock.ledger.settings import LedgerSettings
from penstock.ledger.store import Store
from penstock.stores.errors import KeyProblem, StoreError
from penstock.stores.keys import Keys, Wanted, shown

NOW = 1000.0


@pytest.fixture
def engine(any_settings: LedgerSettings) -> Iterator[sa.Engine]:
    Store.open(any_settings).close()
    made = open_engine(any_settings)
    yield made
    made.dispose()


@pytest.fixture
def keys(engine: sa.Engine) -> Keys:
    return Keys(engine, b"secret")


FULL = Wanted(
    "laptop", "ada", "p", ["eu"], NOW + 500, ["gpt-*"], ["*"], ["openai_chat"], ["requests=5/minute", "streams=2"], ["money=1.50/day,cut"])


def test_made_once_and_found(keys: Keys) -> None:
    key, text = keys.create(FULL.key(NOW))
    assert text.startswith(PREFIX)
    ring, _, foreign = keys.ring()
    assert ring.find(text.encode()) == (key, False)
    assert ring.find(text.encode() + b"x") is None
    assert (ring.count, foreign) == (1, 0)
    assert keys.all() == [key]
    assert shown(key) == {
        "id": key.id, "name": "laptop", "fingerprint": sha256(text.encode()).hexdigest()[:12], "owner": "ada", "project": "p", "tags": ["eu"],
        "created_at": NOW, "expires_at": NOW + 500, "revoked_at": None, "models": ["gpt-*"], "routes": ["*"], "protocols": ["openai_chat"],
        "limits": ["requests=5/minute", "streams=2"], "budgets": ["money=1.50/day,cut"], "previous_until": None,
    }


def test_nothing_in_the_database_leads_back_to_it(keys: Keys, engine: sa.Engine) -> None:
    _, text = keys.create(Wanted("a").key(NOW))
    with engine.connect() as connection:
        stored = str(list(connection.execute(sa.text("SELECT * FROM virtual_keys"))))
    assert text not in stored
    assert text.removeprefix(PREFIX) not in stored
    assert sha256(text.encode()).hexdigest() not in stored, "not even what other gateways store"


def test_rotated(keys: Keys) -> None:
    key, old = keys.create(Wanted("a").key(NOW))
    rotated, new = keys.rotate(key.id, NOW, 60.0)
    ring, _, _ = keys.ring()
    assert ring.count == 1
    assert ring.find(new.encode()) == (rotated, False)
    found = ring.find(old.encode())
    assert found == (rotated, True)
    assert refused(rotated, True, NOW + 59) is None
    assert refused(rotated, True, NOW + 60) == f"key {key.id} was rotated"
    _, newest = keys.rotate("a", NOW, 0.0)
    ring, _, _ = keys.ring()
    first = ring.find(old.encode())
    assert first is not None
    assert refused(*first, NOW) == f"key {key.id} was rotated"
    late = ring.find(new.encode())
    assert late is not None
    assert refused(*late, NOW) == f"key {key.id} was rotated"
    assert ring.find(newest.encode()) is not None


def test_revoked_is_for_ever(keys: Keys) -> None:
    key, text = keys.create(Wanted("a").key(NOW))
    assert keys.revoke(key.id[:10], NOW + 1).revoked_at == NOW + 1
    assert keys.revoke(key.id, NOW + 5).revoked_at == NOW + 1
    found = keys.ring()[0].find(text.encode())
    assert found is not None
    assert refused(*found, NOW + 2) == f"key {key.id} is revoked"
    with pytest.raises(KeyProblem, match="is revoked; make a new key"):
        keys.rotate(key.id, NOW, 0.0)


def test_taken_over_by_its_digest(keys: Keys) -> None:
    digest = sha256(b"sk-from-elsewhere").digest()
    key = keys.adopt(Wanted("old").key(NOW), digest)
    assert keys.ring()[0].find(b"sk-from-elsewhere") == (key, False)
    with pytest.raises(KeyProblem, match="there already"):
        keys.adopt(Wanted("again").key(NOW), digest)
    with pytest.raises(KeyProblem, match="64 hexadecimal"):
        keys.adopt(Wanted("short").key(NOW), digest[:31])


def test_the_first_text_of_one_taken_over_is_ours_however_often_it_is_rotated(keys: Keys) -> None:
    """Nothing in its form says so: unknown, it would go to the provider as the client's own login."""
    key = keys.adopt(Wanted("old").key(NOW), sha256(b"sk-from-elsewhere").digest())
    why = ""
    for _ in range(3):
        keys.rotate(key.id, NOW, 600.0)
        found = Door(AdmissionSettings(), keys.ring()[0]).look([(b"authorization", b"Bearer sk-from-elsewhere")], "", NOW)
        assert found.headers == []
        why = found.why
    assert why == f"key {key.id} was rotated", "the grace is of the text before the last rotation alone"
    assert keys.all()[0].name == "old"


@pytest.mark.parametrize("spoilt", ["details = 'x'", "details = '{\"limits\": [\"x\"]}'", "details = '[]'"])
def test_a_key_that_cannot_be_read_lets_nobody_in_and_keeps_no_other_from_being_read(keys: Keys, engine: sa.Engine, spoilt: str) -> None:
    (one, odd), (other, text) = keys.create(Wanted("a").key(NOW)), keys.create(Wanted("b").key(NOW))
    with engine.begin() as connection:
        connection.execute(sa.text(f"UPDATE virtual_keys SET {spoilt} WHERE id = :id"), {"id": one.id})
    keys.revoke(other.id, NOW)
    ring, _, _ = keys.ring()
    for sent in (odd, text):
        found = ring.find(sent.encode())
        assert found is not None
        assert refused(*found, NOW) is not None
    assert [key.id for key in keys.all()] == [one.id, other.id]
    assert keys.revoke("a", NOW + 5).id == one.id


def test_a_seal_that_is_none_is_nobodys(keys: Keys, engine: sa.Engine) -> None:
    one, _ = keys.create(Wanted("a").key(NOW))
    with engine.begin() as connection:
        connection.execute(sa.text("UPDATE virtual_keys SET seal = 'x', previous_seal = 'y' WHERE id = :id"), {"id": one.id})
    assert keys.ring()[0].count == 1


def test_every_change_is_seen(keys: Keys) -> None:
    seen = [keys.change()]
    key, _ = keys.create(Wanted("a").key(NOW))
    seen.append(keys.change())
    keys.rotate(key.id, NOW, 0.0)
    seen.append(keys.change())
    keys.revoke(key.id, NOW)
    seen.append(keys.change())
    assert seen == sorted(set(seen))
    assert keys.ring()[1] == seen[-1]


def test_under_another_secret_it_is_not_known_and_that_is_told(keys: Keys, engine: sa.Engine) -> None:
    _, text = keys.create(Wanted("a").key(NOW))
    ring, _, foreign = Keys(engine, b"another").ring()
    assert (ring.find(text.encode()), ring.count, foreign) == (None, 0, 1)
    assert Door(AdmissionSettings(), ring).mode is Mode.STRICT, "a secret that is lost opens the door to nobody"
    assert Door(AdmissionSettings(), Ring(b"secret")).mode is None


def test_a_change_that_another_process_makes_at_the_same_time_is_seen(keys: Keys, engine: sa.Engine) -> None:
    """It took its number before the other's was there: both have the same."""
    (one, _), (other, _) = keys.create(Wanted("a").key(NOW)), keys.create(Wanted("b").key(NOW))
    with engine.connect() as connection:
        taken = connection.scalar(sa.text("SELECT max(change) + 1 FROM virtual_keys"))
    keys.revoke(one.id, NOW)
    seen = keys.ring()[1]
    with engine.begin() as connection:
        late = sa.text("UPDATE virtual_keys SET revoked_at = 5, change = :change WHERE id = :id")
        connection.execute(late, {"change": taken, "id": other.id})
    assert keys.change() != seen
    assert keys.ring()[1] == keys.change()


def test_names(keys: Keys) -> None:
    one, _ = keys.create(Wanted("a").key(NOW))
    keys.create(Wanted("a").key(NOW))
    with pytest.raises(KeyProblem, match="2 keys are called a"):
        keys.revoke("a", NOW)
    keys.revoke(one.id, NOW)
    assert keys.revoke("a", NOW).id != one.id, "the one that lives is meant"
    for id in ("nobody", "key_", "key%", ""):
        with pytest.raises(KeyProblem, match="there is no key"):
            keys.revoke(id, NOW)


@pytest.mark.parametrize(("wanted", "why"), [
    (Wanted(" "), "needs a name"), (Wanted("a", limits=["5"]), "is no limit"), (Wanted("a", budgets=["5"]), "is no budget"),
    (Wanted("a", protocols=["http"]), "there is no protocol http"), (Wanted("a", expires_at=NOW), "expired already"),
    (Wanted("a", expires_at=1_900_000_000_000.0), "year 9999"), (Wanted("a", expires_at=1e300), "year 9999"),
])  # fmt: skip
def test_what_cannot_be_made(keys: Keys, wanted: Wanted, why: str) -> None:
    with pytest.raises(KeyProblem, match=why):
        keys.create(wanted.key(NOW))


def test_a_database_that_is_gone_is_told(engine: sa.Engine, keys: Keys) -> None:
    with engine.begin() as connection:
        connection.execute(sa.text("DROP TABLE virtual_keys"))
    with pytest.raises(StoreError, match="the keys cannot be had"):
        keys.all()


@pytest.mark.parametrize("at", [1e300, 253402300800.0])
def test_a_key_does_not_expire_where_no_calendar_reaches(at: float) -> None:
    with pytest.raises(KeyProblem, match="year 9999"):
        Wanted("n", expires_at=at).key(0.0)
