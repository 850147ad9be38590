"""How fast, beside a limit of the same run: `python -m benchmarks ingest | latency | read | scale | memory | all`.

ingest        a waiting backlog: the daemon's rate, beside noop's and bare_driver's
latency       from PUBLISH sent to visible in the API, at a given rate
read          the API's requests a second, beside bare_flask's; uncached_api: without its cache
scale         ingest and read against how much there is of everything
memory        the daemon's resident memory while a long backlog waits
report        what was measured, as table and JSON; machine: where
plots         docs/PERFORMANCE.md's plots and table from that JSON
load          devices that publish while something else is measured
backlog       fills a broker with messages that wait for named sessions; people: fills a table
soak          hours with random faults: `python -m benchmarks.soak`
"""
