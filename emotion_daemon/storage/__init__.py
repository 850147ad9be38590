"""The daemon's side of the database: folded group -> transaction -> commit -> state cache.

store             opens one transaction a group, and commits it durably
transaction       what is written in it: people, devices, history, statuses, dead letters
dead_letters      the stored part of an invalid message, and the quota of a topic
changes           what others learn of it: revisions for the API, new state for the cache
state_cache       the rows that a group is folded over: read, or remembered from the last commit
statements        the upserts, compiled once
dialects          what SQLite and PostgreSQL do differently
errors            the database's errors: temporary or lasting, and their kind
file_lock         one daemon per SQLite file
file_guard        notices a SQLite file that was deleted or replaced
sound_check       finds damage in a SQLite file after the start, in a thread
purge             removes deleted rows from the database's files
lock_retry        waits for a database lock that another program holds
totals_migration  turns stored people into totals if EMOTION_TOTALS_ONLY is set
migrations/       the schema's history, run by Alembic at the start
"""
