"""What ``opentelemetry-instrument`` imports of mlaudit."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import sys
import mlaudit.capture.telemetry.launcher
stages = ("mlaudit.pipeline.", "mlaudit.policy", "mlaudit.records")
print(sorted(name for name in sys.modules if name.startswith(stages)))
"""


def test_a_process_that_is_not_audited_does_not_load_the_pipeline() -> None:
    """The launcher loads every instrumentor of the environment: without auditing ours loads no stage but its own."""
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True, env={})
    assert done.stdout.strip() == "['mlaudit.pipeline.metrics']"
