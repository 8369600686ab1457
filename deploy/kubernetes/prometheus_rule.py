"""The rules of Prometheus as an object of its operator, so that they are written in one place alone.

Run: python deploy/kubernetes/prometheus_rule.py

Makes components/monitoring/prometheus-rule.yaml of the groups in ../prometheus/rules.yaml, comments and all.
"""

from __future__ import annotations

from pathlib import Path
from textwrap import indent

HERE = Path(__file__).parent
RULES = HERE.parent / "prometheus" / "rules.yaml"
MADE = HERE / "components" / "monitoring" / "prometheus-rule.yaml"
_HEAD = """\
# Made of deploy/prometheus/rules.yaml by prometheus_rule.py
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: trimtab
  labels:
    app.kubernetes.io/name: trimtab
spec:
"""


def main() -> None:
    """Write it."""
    _, begin, groups = RULES.read_text().partition("groups:\n")
    MADE.write_text(_HEAD + indent(begin + groups, "  "))
    print(f"wrote {MADE}")


if __name__ == "__main__":
    main()
