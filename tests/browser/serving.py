"""The API while a browser looks at it."""

import signal

from tests.web import Api


class Server(Api):
    """Ends at once. Chromium keeps its connections, and gunicorn would wait for their end."""

    def stop(self) -> int:
        self.signal(signal.SIGQUIT)
        return super().stop()
