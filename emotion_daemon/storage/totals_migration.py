"""If EMOTION_TOTALS_ONLY is set, people who are stored already become totals, for good."""

import logging

from sqlalchemy import Engine, delete, func, select, update

from emotion_daemon.storage.dialects import LARGEST_SUM, dialect_of
from emotion_daemon.storage.purge import NotPurgedError
from emotion_daemon.storage.statements import Statements
from emotion_daemon.storage.store import Store
from emotion_daemon.storage.transaction import Transaction
from shared.batch import EMOTIONS
from shared.schema import person_emotion, rejected_message

log = logging.getLogger(__name__)


def leave_only_totals(engine: Engine) -> None:
    """Add every person's seconds to the totals of the device, delete the person, and empty all dead letters' payloads.

    This is one transaction, for the start, before anything else writes. A million people take some seconds.
    """
    with Store(engine, guarded=False, totals_only=True).transaction() as transaction:
        people = _people_to_totals(transaction, engine)
        stored = func.length(rejected_message.c.payload) > 0
        transaction.connection.execute(update(rejected_message).where(stored).values(payload=b""))
    if people:
        try:
            dialect_of(engine).purge(engine)
        except NotPurgedError as error:
            log.warning("the database's files may still contain the bytes of deleted people: %s", error)
        log.warning(
            "EMOTION_TOTALS_ONLY is set: the daemon has added the seconds of %d people to the totals of their devices "
            "and deleted the people. This cannot be undone",
            people,
        )


def _people_to_totals(transaction: Transaction, engine: Engine) -> int:
    connection, dialect = transaction.connection, dialect_of(engine)
    dialect.lock_people(connection)
    people = connection.scalar(select(func.count()).select_from(person_emotion)) or 0
    if people:
        device_id = person_emotion.c.device_id
        sums = (dialect.sum(person_emotion.c[f"time_{emotion}"]) for emotion in EMOTIONS)
        add_total = Statements(engine).add_total
        for device, *seconds in connection.execute(select(device_id, *sums).group_by(device_id)).all():
            add_total.execute(connection, [(device, *(min(each, LARGEST_SUM) for each in seconds))])
            transaction.changes.devices.add(device)
        connection.execute(delete(person_emotion))
    return people
