"""Runs the detection rules on a cluster: ``mlaudit detect``.

``plans`` finds the compiled rules, ``rule_search`` and ``window`` ask Elasticsearch, ``run_rules`` makes alerts of the
answers; ``alert_trail`` and ``kibana`` turn alerts into audit records.
"""

from mlaudit.detect.compiled_rule import Alert, Plan, Step
from mlaudit.detect.run_rules import run_rules

__all__ = ["Alert", "Plan", "Step", "run_rules"]
