"""Metrics, health, log and watchdog: the daemon's state for operators and their tools.

report       takes each event of the loop once and passes it to the modules below
group        the value with which the loop tells of a committed group. Pure
metrics      Prometheus metrics
device_rates which devices send far more than a camera does
event_log    log lines about devices: each device's first event of a kind, then sums, once a minute
outage       log lines about an outage: its start, its reasons, a reminder now and then
alerting     looks for alerts and posts them, in a thread of its own
webhook      posts one alert, signed
heartbeat    health and readiness, and systemd's watchdog
disk         sizes of the database's files and of their disk
http         serves /metrics, /healthz and /readyz
log_handler  drops log lines that a pipe has no room for, instead of waiting
"""
