"""The version of the device's package and of the server."""

__version__ = "0.1.0"
