"""The module that the ``.pth`` line imports when ``MLAUDIT_ENABLED`` is on: installs the hooks, never raises."""

from __future__ import annotations

import sys


def _start() -> None:
    try:
        from mlaudit.capture.instrumentor import activate

        activate()
    except Exception as error:  # noqa: BLE001 - this runs before the program of somebody else
        print(f"mlaudit: AUDITING IS OFF: {type(error).__name__}: {error}", file=sys.stderr)  # noqa: T201


_start()
