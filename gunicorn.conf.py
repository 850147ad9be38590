"""Configure gunicorn for the API: `gunicorn 'emotion_api:create_app()'`. GUNICORN_CMD_ARGS overrides each setting."""

import gc
import logging
import os
import shutil
import sys
import tempfile
from itertools import count
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gunicorn.arbiter import Arbiter
    from gunicorn.workers.base import Worker

bind = "127.0.0.1:8000"  # only this machine can connect; a container sets 0.0.0.0
workers = 2
worker_class = "gevent"  # 200 slow or idle clients do not hold up the others, as they do with threads
worker_connections = 1_000
preload_app = False  # each worker makes its own engine: a SQLite connection must not cross a fork

timeout = 30  # a worker that does not move for so long is replaced
graceful_timeout = 10  # what a stopping worker gives its running requests
keepalive = 15  # seconds; longer than the dashboard waits between two polls, so that it need not reconnect

limit_request_line = 2_048  # bytes; the longest valid one has about 130
limit_request_fields = 64
limit_request_field_size = 8_190  # bytes; browsers send the cookies of everything else on localhost, too

accesslog = None  # a line for every poll says nothing
access_log_format = '%(h)s %(t)s "%(m)s %(U)s" %(s)s %(b)s %(L)s'  # if enabled, without the query: see Nameless
errorlog = "-"  # stderr
control_socket_disable = True  # unused


def on_starting(server: "Arbiter") -> None:
    """Check the settings once, before any worker does, and end with one sentence if they cannot work."""
    from shared.settings import Settings, SettingsError

    try:
        settings = Settings.from_environ(os.environ)
    except SettingsError as error:
        sys.exit(f"emotion_api cannot start: {error}")
    logging.basicConfig(
        level=settings.log_level,
        format="[%(asctime)s] [%(process)d] [%(levelname)s] %(name)s: %(message)s",
    )
    for sentence in settings.unknown:
        server.log.warning("%s", sentence)
    # The workers count their requests there; worker_tmp_dir is in memory if the service has such a folder.
    server.metrics_folder = tempfile.mkdtemp(prefix="emotion-api-metrics-", dir=server.cfg.worker_tmp_dir)
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = server.metrics_folder


def pre_fork(server: "Arbiter", worker: "Worker") -> None:
    """Give the worker the lowest number that no running worker has: it continues the counts of that number's file."""
    used = {other.number for other in server.WORKERS.values()}
    worker.number = next(number for number in count() if number not in used)
    os.environ["API_WORKER"] = str(worker.number)


class Nameless(logging.Filter):
    """Remove a request's own words from gunicorn's lines about it: a badly encoded `after=` is a person's id."""

    def filter(self, record: logging.LogRecord) -> bool:
        text = record.getMessage()
        if text.startswith("Invalid request from "):
            record.msg, record.args = text.partition("'")[0].partition('"')[0], ()
        elif text.startswith("Error handling request "):
            record.msg, record.args = text.partition("?")[0], ()
        return True


def post_worker_init(worker: "Worker") -> None:
    """Exclude everything that is imported from garbage collection, which would stop every request for it."""
    worker.log.error_log.addFilter(Nameless())
    gc.freeze()


def on_exit(server: "Arbiter") -> None:
    """Remove the folder that on_starting made."""
    shutil.rmtree(server.metrics_folder, ignore_errors=True)
