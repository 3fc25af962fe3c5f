"""Alembic's entry: run the migrations on the connection that `server.db` hands over."""

from alembic import context
from sqlmodel import SQLModel

import server.tables  # noqa: F401  (fills SQLModel.metadata)

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=SQLModel.metadata,
    render_as_batch=True,  # SQLite alters tables by copying them
)
with context.begin_transaction():
    context.run_migrations()
