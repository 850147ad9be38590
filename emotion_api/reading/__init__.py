"""From a typed request to a response: cache -> queries -> read model -> bytes.

reader             reads what a summary, a history and the list of devices need
source             finds a response in the cache or has it built, and reports outages of the database
cache              responses that are current
change_detector    whether the database has changed since a response was built
queries            the selects
response           bytes, ETag, gzip
cooperative_yield  pauses during long work, so that other requests are answered
"""
