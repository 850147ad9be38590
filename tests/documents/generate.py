"""Write each generated part of the documents: `scripts/docs`."""

import logging
import sys
from pathlib import Path

from benchmarks import report
from tests.documents import alerts, command_line, configuration, http_api, metrics
from tests.documents.markdown import Part, with_parts
from tests.processes import ROOT

PARTS: dict[str, Part] = {
    "alerts": alerts.index,
    "settings": configuration.settings,
    "secret-files": configuration.secret_files,
    "compose": configuration.compose,
    "daemon-metrics": metrics.of_the_daemon,
    "api-metrics": metrics.of_the_api,
    "http-api": http_api.endpoints,
    "scripts": command_line.scripts,
    "admin-commands": command_line.admin,
    "device-commands": command_line.device,
    "benchmarks": lambda: report.table(report.read(ROOT / "docs" / "explain" / "performance" / "results.json")),
}
"""Every generated part: the document has its name in a mark."""


def documents() -> dict[Path, str]:
    """Return every Markdown file below docs/ with its text."""
    return {file: file.read_text(encoding="utf-8") for file in sorted((ROOT / "docs").rglob("*.md"))}


def main() -> int:
    """Write the parts of every document and print the names of the documents that changed."""
    logging.disable()  # the API that is asked for its metrics has no database
    for file, text in documents().items():
        written = with_parts(text, PARTS)
        if written != text:
            file.write_text(written, encoding="utf-8")
            sys.stdout.write(f"{file.relative_to(ROOT)}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
