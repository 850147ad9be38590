"""The common parts of this package's commands: their name, and one line on stderr for wrong arguments."""

from __future__ import annotations

import argparse
from typing import NoReturn

PROGRAM = "python -m emotion_device"


class Parser(argparse.ArgumentParser):
    """End the process with exit code 2 and one sentence if the arguments are wrong."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}\n")
