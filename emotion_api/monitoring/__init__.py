"""The API's Prometheus metrics: no person and no device is named.

metrics  request durations by view and status, and whether the database can be read
tally    counts in memory that the workers share
"""
