"""Runs the detection rules on a cluster: ``mlaudit detect``."""

from mlaudit.detect.interface import Alert, Plan, Step
from mlaudit.detect.run import run_rules

__all__ = ["Alert", "Plan", "Step", "run_rules"]
