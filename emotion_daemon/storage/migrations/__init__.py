"""The schema's history, one file a step in `versions/`, and `upgrade`, which brings a database to the newest.

A new step: change shared/schema.py, then `alembic revision --autogenerate -m "what changes"`.
"""

from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import Column, Connection, Engine, MetaData, Table, Text, inspect, select

from emotion_daemon.storage.dialects import dialect_of

if TYPE_CHECKING:
    from alembic.config import Config


UNFINISHED_COPY = Table("unfinished_copy", MetaData(), Column("source", Text, nullable=False))
"""In the target of `copy-database` until all rows are copied and compared. It names the source."""


class NewerSchemaError(Exception):
    """Raised when a newer version of this program has upgraded the database."""


class UnfinishedCopyError(Exception):
    """Raised when `copy-database` has not copied everything into the database yet."""


# alembic takes longer to import than the rest of the daemon: only the functions that use it import it.


def upgrade(engine: Engine) -> None:
    """Create the schema or bring it up to date, in one transaction; of two at once the second waits and finds it done.

    Raises NewerSchemaError and UnfinishedCopyError.
    """
    from alembic import command
    from alembic.util import CommandError

    config = _config()
    with engine.begin() as connection:
        dialect_of(connection).lock_schema(connection)
        _check_copied(connection)
        config.attributes["connection"] = connection
        try:
            command.upgrade(config, "head")
        except CommandError as error:
            raise NewerSchemaError(
                f"the database is from a newer version of this program ({error}): start that one"
            ) from error


def _check_copied(connection: Connection) -> None:
    if inspect(connection).has_table(UNFINISHED_COPY.name):
        source = connection.scalar(select(UNFINISHED_COPY.c.source))
        raise UnfinishedCopyError(
            f"the database is an unfinished copy of {source}: set EMOTION_DATABASE_URL to that one again, and run "
            "the same `scripts/copy-database --to` again, which continues"
        )


def revisions() -> list[str]:
    """The steps that this program knows, oldest first; the last is the newest schema."""
    from alembic.script import ScriptDirectory

    return [step.revision for step in ScriptDirectory.from_config(_config()).walk_revisions()][::-1]


def _config() -> "Config":
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    return config
