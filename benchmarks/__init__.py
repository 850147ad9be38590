"""Measure against a limit in the same run: `python -m benchmarks ingest | latency | read | scale | memory | all`.

ingest        a waiting backlog: the daemon's rate, against noop's and bare_driver's
latency       from PUBLISH sent to visible in the API, at a given rate
read          the API's requests a second, against bare_flask's; uncached_api: without its cache
              both with --database postgresql: against SQLite in the same run
scale         ingest and read with growing numbers of devices, people and rows
memory        the daemon's resident memory while a long backlog waits
flood         how long other devices wait while one floods the broker with invalid messages
histories     how long other requests wait while clients request long histories
report        the results, as table and JSON; machine: the computer
plots         the plots of docs/explain/performance.md, from that JSON
load          devices that publish during another measurement
backlog       fills a broker with messages that wait for named sessions; people: fills a table
soak          hours with random faults: `python -m benchmarks.soak`
"""
