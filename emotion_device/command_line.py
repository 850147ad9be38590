"""What the commands of this package have in common: their name, and one line on stderr for what cannot work."""

import argparse
from typing import NoReturn

PROGRAM = "python -m emotion_device"


class Parser(argparse.ArgumentParser):
    """Ends the process with exit code 2 and one sentence where the arguments are wrong."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}\n")
