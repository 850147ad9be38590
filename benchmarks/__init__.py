"""How fast, as a ratio against a baseline in the same run: `python -m benchmarks ingest | latency | memory`.

backlog     fills a broker with messages that wait for named sessions
noop        the baseline: a paho subscriber (MQTT 5, manual ack) that does nothing but acknowledge
ingest      a waiting backlog: the daemon's rate against noop's
latency     from PUBLISH sent to visible in the API, at a given rate
memory      the daemon's resident memory while a long backlog waits
"""
