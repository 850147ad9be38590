"""The limit of the API: a Flask view that does nothing, for gunicorn: `benchmarks.bare_flask:app`."""

from flask import Flask, Response

app = Flask(__name__)


@app.get("/")
def nothing() -> Response:
    """Return as little as a view can."""
    return Response(b'{"status":"ok"}', content_type="application/json")
