"""From a typed request to a response: cache -> queries -> read model -> bytes.

reader             builds summary, history and list of devices
source             the engine, the cache, and what a request gets while the database is unavailable
cache              responses that were built, for as long as they are right
change_detector    whether the database has changed (SQLite)
queries            the selects
response           bytes, ETag, gzip
cooperative_yield  pauses during long work, so that other requests are answered
"""
