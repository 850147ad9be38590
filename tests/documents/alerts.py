"""The index of the runbooks, from the alerts of deploy/prometheus/rules.yml."""

import re

import yaml

from tests.documents.markdown import table
from tests.processes import ROOT


def index() -> str:
    """Each alert with a link to its page, its severity and its summary, in the order of the rules."""
    rules = yaml.safe_load((ROOT / "deploy" / "prometheus" / "rules.yml").read_text(encoding="utf-8"))
    alerts = [rule for rule in rules["groups"][0]["rules"] if "alert" in rule]
    rows = [
        (f"[{rule['alert']}]({rule['alert']}.md)", rule["labels"]["severity"], _shown(rule["annotations"]["summary"]))
        for rule in alerts
    ]
    return table(("alert", "severity", "meaning"), rows)


def _shown(summary: str) -> str:
    """The summary with the name of a label instead of its value, and "…" instead of a number."""
    return re.sub(r"\{\{ \$value.*?\}\}", "…", re.sub(r"\{\{ \$labels\.(\w+) \}\}", r"`\1`", summary))
