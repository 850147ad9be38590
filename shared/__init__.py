"""What two packages must agree on, and nothing else.

    emotion_device -> batch -> emotion_daemon -> schema, database -> emotion_api

batch      device and daemon: the payload, its rules, the topic names. Pure
messages   device and daemon: the reply to a batch, and what a status topic says. Pure
contract   all of that as JSON Schema and AsyncAPI, for whoever writes a device. Pure
schema     daemon and API: the tables
database   daemon and API: an engine that writes, an engine that only reads
printing   commands: print a line, without a traceback if the reader has left
retry      repeat what meets another process's lock
settings   every process: the environment as one checked object
"""
