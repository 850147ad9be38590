"""The contracts between two packages, and nothing else.

    emotion_device -> batch -> emotion_daemon -> schema, database -> emotion_api

batch      device and daemon: the payload, its rules, the topic names. Pure
messages   device and daemon: the reply to a batch, and the payload of a status topic. Pure
contract   all of that as JSON Schema and AsyncAPI, for programmers of devices. Pure
schema     daemon and API: the tables
database   daemon and API: an engine that writes, an engine that only reads
printing   commands: print a line, without a traceback if the reader has left
retry      repeat a call that meets another process's lock
settings   every process: the environment as one checked object
tokens     API and admin: a bearer token, and the devices and views that it is limited to. Pure
zones      API and admin: a time zone by its name, or an error with similar names
"""
