"""Receive cumulative batches over MQTT and store each person's newest one: receive -> decode -> fold -> commit -> ack.

__main__    the composition root: settings, logging, signals, run, exit code
ingest      the loop: it owns the order of the five steps, the retries and the shutdown
retention   deletes by age, a little between two groups
mqtt/       receive and ack: the MQTT session. The only place that imports paho
rules/      fold, and every other decision about a batch. Pure: no clock, no I/O
storage/    commit: tables, transactions, SQLite's file, migrations
monitoring/ what logs, metrics, health checks and systemd are told

The second step, decode, is shared/batch.py: device and daemon agree on it.
"""
