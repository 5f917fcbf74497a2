"""``%load_ext mlaudit.ipython``: audits a notebook or shell from now on, when ``MLAUDIT_ENABLED`` is not set.

With ``MLAUDIT_ENABLED=true`` the extension is not needed: every kernel and shell is audited from its first cell on, and
unloading the extension does not change that.
"""

from __future__ import annotations

import os
from typing import Any

from mlaudit.settings import is_enabled

__all__ = ["load_ipython_extension", "unload_ipython_extension"]

_loaded = False


def load_ipython_extension(shell: Any) -> None:
    """Turns auditing on in this process, and starts the session of this shell.

    When ``MLAUDIT_ENABLED`` has another value, it prints a message and does nothing: the variable takes precedence.
    """
    global _loaded
    stated = os.environ.get("MLAUDIT_ENABLED")
    if stated is not None and not is_enabled():
        print(f"mlaudit: MLAUDIT_ENABLED is {stated!r}: this session is not audited")  # noqa: T201 - to the person
        return
    if stated is None:
        os.environ["MLAUDIT_ENABLED"] = "true"
        _loaded = True
    from mlaudit.capture.instrumentor import activate
    from mlaudit.pipeline import current

    activate()
    pipeline = current.pipeline()
    if pipeline is None:
        print("mlaudit: this session is not audited; see the log for the reason")  # noqa: T201
        return
    from mlaudit.capture.libraries.ipython import session_of

    session_of(pipeline, shell)


def unload_ipython_extension(shell: Any) -> None:
    """Ends the session, and removes the hooks if the extension turned auditing on."""
    global _loaded
    if not _loaded:
        print("mlaudit: MLAUDIT_ENABLED turned auditing on, so it stays on")  # noqa: T201
        return
    _loaded = False
    from mlaudit.capture.instrumentor import deactivate
    from mlaudit.capture.libraries.ipython import end_session
    from mlaudit.pipeline import current

    pipeline = current.running()
    if pipeline is not None:
        end_session(pipeline, shell, "the extension was unloaded")
    deactivate()
    del os.environ["MLAUDIT_ENABLED"]
