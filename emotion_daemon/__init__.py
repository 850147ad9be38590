"""Receives cumulative batches over MQTT and keeps each person's newest one: receive -> decode -> fold -> commit -> ack.

__main__     composition root: settings, logging, signals, run, exit code
commands     the arguments of the other commands, and what they print
subscriber   1. receive and 5. ack: the MQTT session; imports paho, as doctor's probe does
             publish_packet: what a PUBLISH has, as far as it is needed. Pure
ingest       the loop: owns the order of the five steps, retry and shutdown
             2. decode is shared/batch.py, what a device and the daemon agree on
arrival      a stamp that was replaced does not block what arrived after it. Pure
fold         3. batches of a group -> what changes. Pure
             forgotten: who was erased, and is left out of them. Pure
store        4. one transaction: known rows, changed rows, rejected messages
             database_file: one daemon a SQLite file, which is still the one that was opened; checkpoints
retention    what is too old goes, a little at a time between two groups
totals       where no people are to be stored: those who are become totals
notices      what devices do: which of it is worth a log line, and how often
trouble      what fails again and again: a line when it begins, one when it is over
log_handler  drops lines that nobody reads, instead of waiting
heartbeat    how the daemon is doing, and what systemd hears of it
metrics      what Prometheus reads
status_server /metrics, /healthz and /readyz over HTTP, on a thread of its own
rejected     `python -m emotion_daemon rejected`: list and replay what was no valid batch
doctor       `python -m emotion_daemon doctor`: what is wrong, and what to do about it
person       `python -m emotion_daemon person`: erase a person, or write out what there is of one
             mention: whether a rejected message is about a person. Pure
migrations   the schema by Alembic, upgraded at the start
"""
