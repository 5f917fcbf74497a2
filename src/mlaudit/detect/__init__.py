"""Runs the detection rules on a cluster: ``mlaudit detect``."""

from mlaudit.detect.compiled_rule import Alert, Plan, Step
from mlaudit.detect.run_rules import run_rules

__all__ = ["Alert", "Plan", "Step", "run_rules"]
