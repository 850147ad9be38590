"""The daemon's side of the database: folded group -> one transaction -> commit.

store             opens transactions, and classifies the database's errors
state_cache       the rows that a group is folded over: read, or remembered from the last commit
file_guard        keeps the daemon off a SQLite file that was replaced, and a second daemon off the same file
totals_migration  turns stored people into totals when EMOTION_TOTALS_ONLY is set
migrations/       the schema's history, run by Alembic at the start
"""
