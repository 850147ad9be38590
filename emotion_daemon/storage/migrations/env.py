"""Alembic's entry: runs the steps on the daemon's connection, or on one of its own for the command line."""

import os

from alembic import context
from sqlalchemy import Connection

from shared.database import writer_engine
from shared.schema import metadata
from shared.settings import Settings


def run(connection: Connection) -> None:
    context.configure(connection=connection, target_metadata=metadata, render_as_batch=True, transactional_ddl=True)
    with context.begin_transaction():
        context.run_migrations()


given = context.config.attributes.get("connection")
if given is not None:
    run(given)
else:
    engine = writer_engine(Settings.from_environ(os.environ).database_url)
    with engine.begin() as own:
        run(own)
    engine.dispose()
