"""The schema's history: its end is what `schema` says, it is made once, and costs nothing when there is nothing to do."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from penstock.ledger import engine as engines
from penstock.ledger import migrations, query
from penstock.ledger.entry import COLUMNS, KINDS, row_of
from penstock.ledger.errors import LedgerError
from penstock.ledger.schema import HEAD, TOKENS_CHECK, exchanges, metadata
from penstock.ledger.settings import LedgerSettings
from penstock.ledger.store import Store
from penstock.stores import schema as stores_schema
from penstock.vocabulary.usage import Kinds, Provenance, Usage
from tests.support.ledgers import COMPLETE, make_entry

WHOLE = sa.MetaData()
"""Everything that stands in the database, whichever room it belongs to."""
for _table in (*metadata.tables.values(), *stores_schema.metadata.tables.values()):
    _table.to_metadata(WHOLE)


def _engine(settings: LedgerSettings) -> sa.Engine:
    url, path, _ = engines.locate(settings)
    if path is not None:
        return engines.sqlite_engine(path, lock_wait_s=1.0)
    assert url is not None
    return engines.postgresql_engine(url)


def test_head_is_what_the_tables_say(any_settings: LedgerSettings) -> None:
    Store.open(any_settings).close()
    engine = _engine(any_settings)
    with engine.connect() as connection:
        differences = compare_metadata(MigrationContext.configure(connection), WHOLE)  # pyright: ignore[reportUnknownVariableType]
    engine.dispose()
    assert differences == []


def test_the_check_is_the_same_in_both(settings: LedgerSettings) -> None:
    """Alembic does not compare checks."""
    Store.open(settings).close()
    with _engine(settings).connect() as connection:
        text = str(connection.exec_driver_sql("SELECT sql FROM sqlite_master WHERE name = 'exchanges'").scalar())
    assert TOKENS_CHECK in text


def test_the_constant_is_the_newest_revision() -> None:
    scripts = ScriptDirectory(str(Path(migrations.__file__).parent))
    assert scripts.get_heads() == [HEAD]


def test_the_row_and_the_table_have_the_same_columns() -> None:
    assert tuple(column.name for column in exchanges.columns) == COLUMNS


def _make_old(settings: LedgerSettings, revision: str) -> None:
    """A ledger as the version of that revision left it."""
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    if settings.url is None:
        settings.sqlite_path.touch()
    config = Config()
    config.set_main_option("script_location", str(Path(migrations.__file__).parent))
    config.set_main_option("path_separator", "os")
    engine = _engine(settings)
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, revision)
        assert migrations.revision(connection) == revision
        connection.exec_driver_sql(
            "INSERT INTO exchanges (id, instance, started_at, outcome, input_tokens, late_settles) VALUES ('old', 'i0', 5.5, 'COMPLETE', 7, 0)")
        connection.exec_driver_sql("INSERT INTO exchanges (id, instance, started_at, late_settles) VALUES ('open', 'i1', 6.5, 0)")
    engine.dispose()


LATEST = (
    "cost_nanousd", "saved_nanousd", "price_version", "service_tier", "web_searches", "user_id", "project", "session_id", "client", "effort",
    "preview", "origin", "key_id", "charged_input", "charged_output", "charged_micros", "rule", "findings", "held_chars",
    "held_ms", "replay", "replay_of", "avoided_nanousd", *KINDS,
)  # fmt: skip


def test_daily_sums_survive_a_wider_key(any_settings: LedgerSettings) -> None:
    _make_old(any_settings, "0002")
    engine = _engine(any_settings)
    with engine.begin() as connection:
        for model, tokens in (("a", 5), ("b", 7)):
            connection.exec_driver_sql(
                "INSERT INTO daily (day, provider, model, requested_model, operation, outcome, key_fingerprint, exchanges, unreported, input_tokens) "
                f"VALUES ('2023-11-14', 'openai', '{model}', '', 'chat', 'COMPLETE', '', 2, 1, {tokens})")
    engine.dispose()
    Store.open(any_settings).close()
    reader = query.connect(any_settings)
    [total] = query.usage(reader, (), provider="openai")
    by_user = query.usage(reader, ("user_id",), provider="openai")
    reader.dispose()
    assert (total["exchanges"], total["unreported"], total["unpriced"], total["input_tokens"], total["cost_nanousd"]) == (4, 2, 0, 12, None)
    assert [(row["user_id"], row["exchanges"]) for row in by_user] == [(None, 4)]
    test_head_is_what_the_tables_say(any_settings)


def test_an_older_ledger_is_upgraded_and_keeps_its_rows(any_settings: LedgerSettings) -> None:
    _make_old(any_settings, "0001")
    with pytest.raises(LedgerError, match=f"schema 0001, this version reads {HEAD}"):
        query.connect(any_settings)
    store = Store.open(any_settings)
    entry = make_entry("open", 6.5, instance="i1", timer="tool_call", route="claude-*", dial_ms=1.5, head_ms=20.25)
    entry.keep_tail([(30.0, "ping", 40)])
    entry.settle(COMPLETE, 7.0)
    store.write([row_of(entry)])
    store.close()
    reader = query.connect(any_settings)
    old, new = query.exchange(reader, "old"), query.exchange(reader, "open")
    reader.dispose()
    added = ("timer", "route", "dial_ms", "head_ms", "tries", "tail")
    assert {*COLUMNS[COLUMNS.index("late_settles") + 1 :]} - {"tail_bytes", *LATEST} == {*added}
    assert old is not None
    assert new is not None
    assert (old["input_tokens"], [old[name] for name in (*added, *LATEST)]) == (7, [None] * (len(added) + len(LATEST)))
    assert [new[name] for name in ("outcome", *added)] == ["COMPLETE", "tool_call", "claude-*", 1.5, 20.25, None, '[[30.0,"ping",40]]']
    test_head_is_what_the_tables_say(any_settings)


def test_kinds_of_tokens_come_to_rows_and_sums_that_are_there(any_settings: LedgerSettings) -> None:
    """What was summed before stays summed, and counts beside what comes later."""
    _make_old(any_settings, "0006")
    engine = _engine(any_settings)
    keys = "provider, model, requested_model, operation, outcome, key_fingerprint, user_id, project, session_id, client, effort, key_id"
    with engine.begin() as connection:
        for table, time in (("daily (day", "'1969-12-30'"), ("hourly (hour", "0")):
            connection.exec_driver_sql(
                f"INSERT INTO {table}, {keys}, exchanges, unreported, unpriced, output_tokens) "
                f"VALUES ({time}, 'google', 'm', '', 'generate', 'COMPLETE', '', '', '', '', '', '', '', 2, 0, 0, 20)")
        connection.exec_driver_sql("INSERT INTO rolled (hour, rows) VALUES (0, 2)")
    engine.dispose()
    store = Store.open(any_settings)
    entry = make_entry("new", 7300.0, instance="i1", provider="google", operation="generate")
    entry.account(Usage(output=1300, kinds=Kinds(image_output=1290, cache_read_audio=4)), Provenance.REPORTED)
    entry.settle(COMPLETE, 7301.0)
    store.write([row_of(entry)])
    store.close()
    reader = query.connect(any_settings)
    [total] = query.usage(reader, (), provider="google")
    new = query.exchange(reader, "new")
    reader.dispose()
    names = ("exchanges", "output_tokens", "image_output_tokens", "cache_read_audio_tokens", "image_input_tokens")
    assert [total[name] for name in names] == [5, 1340, 1290, 4, None]
    assert new is not None
    assert [new[name] for name in names[1:]] == [1300, 1290, 4, None]
    test_head_is_what_the_tables_say(any_settings)


def test_a_ledger_of_a_newer_version_is_named_and_left_alone(any_settings: LedgerSettings) -> None:
    Store.open(any_settings).close()
    engine = _engine(any_settings)
    with engine.begin() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(LedgerError, match=r"was written by a newer Penstock \(schema 9999"):
        Store.open(any_settings)
    with pytest.raises(LedgerError, match=r"was written by a newer Penstock \(schema 9999"):
        query.connect(any_settings)
    with engine.connect() as connection:
        assert migrations.revision(connection) == "9999"
    engine.dispose()


def test_alembic_is_not_even_imported_when_there_is_nothing_to_do(settings: LedgerSettings) -> None:
    Store.open(settings).close()
    script = (
        "import sys; from pathlib import Path; from penstock.ledger.settings import LedgerSettings; from penstock.ledger.store import Store\n"
        f"Store.open(LedgerSettings(Path({str(settings.data_dir)!r}))).close(); print('alembic' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.strip() == "False"


def test_two_processes_may_make_the_same_ledger_at_once(any_settings: LedgerSettings) -> None:
    script = (
        "import sys; from pathlib import Path; from penstock.ledger.settings import LedgerSettings; from penstock.ledger.store import Store\n"
        "print('ready', flush=True); sys.stdin.readline()\n"
        f"Store.open(LedgerSettings(Path({str(any_settings.data_dir)!r}), {any_settings.url!r})).close(); print('done')"
    )
    pipe = subprocess.PIPE
    started = [subprocess.Popen([sys.executable, "-c", script], stdin=pipe, stdout=pipe, stderr=pipe, text=True) for _ in range(3)]
    for process in started:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in started:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    for process in started:
        out, err = process.communicate(timeout=30)
        assert (process.returncode, out) == (0, "done\n"), err
    test_head_is_what_the_tables_say(any_settings)
