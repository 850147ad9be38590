"""python -m emotion_device: picks the command, which reads its own arguments."""

from __future__ import annotations

import importlib.util
import os
import sys
from typing import Sequence

from emotion_device import bridge
from emotion_device.command_line import PROGRAM, Parser


def main(argv: Sequence[str]) -> int:
    """Run the command that the first argument names. Returns its exit code; 2 for wrong arguments."""
    parser = Parser(prog=PROGRAM, description="The device's side of Emotion Analytics.")
    commands = parser.add_subparsers(title="commands", dest="command", required=True, metavar="COMMAND")
    commands.add_parser("bridge", help="take batches by HTTP POST, and publish them", add_help=False)
    commands.add_parser("simulate", help="play cameras that publish to a broker", add_help=False)
    commands.add_parser("validate", help="check that files contain valid batches", add_help=False)
    command = parser.parse_args(argv[:1]).command
    if command == "bridge":
        return bridge.main(argv[1:], os.environ)
    if importlib.util.find_spec("emotion_device.workbench") is None:
        parser.error(f"{command} needs the server's packages: run it on the server, or in a checkout of the project")
    from emotion_device.workbench import simulation, validate

    if command == "validate":
        return validate.main(argv[1:])
    return simulation.main(argv[1:], os.environ)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
