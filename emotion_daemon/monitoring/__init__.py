"""What operators and their tools are told of the daemon.

event_log    log lines about devices: each device's first event, then a sum a minute
outage       log lines about an outage: one at its start, one at its end
heartbeat    health and readiness, and systemd's watchdog
metrics      Prometheus metrics
disk         sizes of the database files and of their disk
http         serves /metrics, /healthz and /readyz
log_handler  drops log lines that a pipe has no room for, instead of waiting
"""
