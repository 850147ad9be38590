"""The API's Prometheus metrics. They name no person and no device.

metrics  request durations by view and status, and whether the database can be read
"""
