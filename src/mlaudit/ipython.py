"""``%load_ext mlaudit.ipython``: audits a notebook or shell from here on, where ``MLAUDIT_ENABLED`` did not do it.

With ``MLAUDIT_ENABLED=true`` nothing has to be loaded: every kernel and shell is audited from its first cell on, and
unloading changes nothing about that.
"""

from __future__ import annotations

import os
from typing import Any

from mlaudit.settings import TRUE

__all__ = ["load_ipython_extension", "unload_ipython_extension"]

_loaded = False


def load_ipython_extension(shell: Any) -> None:
    """Switches auditing on in this process, and begins the session of this shell.

    Says so, and does nothing, where ``MLAUDIT_ENABLED`` is set to something else: whoever set it decides.
    """
    global _loaded
    stated = os.environ.get("MLAUDIT_ENABLED")
    if stated is not None and stated.strip().lower() not in TRUE:
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
        print("mlaudit: this session is not audited; the reason stands in the log")  # noqa: T201
        return
    from mlaudit.capture.libraries.ipython import session_of

    session_of(pipeline, shell)


def unload_ipython_extension(shell: Any) -> None:
    """Ends the session and takes the hooks out, if it was the extension that switched auditing on."""
    global _loaded
    if not _loaded:
        print("mlaudit: MLAUDIT_ENABLED switched auditing on, so it stays on")  # noqa: T201
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
