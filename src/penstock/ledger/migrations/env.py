"""Alembic's entry: runs the revisions on the connection, and in the transaction, that `upgrade` hands over."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import context

connection: sa.Connection = context.config.attributes["connection"]
context.configure(connection=connection, transactional_ddl=False)
context.run_migrations()
