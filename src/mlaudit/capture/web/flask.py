"""Flask: every application's requests go through ``audited``, with their route and their user.

The user is the first of: Flask-Login's; what the application put into ``flask.g`` as ``actor``, ``user`` or
``current_user``; the user that Flask-HTTPAuth verified. The user name of HTTP Basic is found in the request's headers,
as everywhere.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, ClassVar, Final

from mlaudit.capture.hooks import Hooks
from mlaudit.capture.web.http_exchange import ERROR
from mlaudit.capture.web.wsgi import audited
from mlaudit.capture.web.wsgi_exchange import MARK
from mlaudit.capture.web.wsgi_request import Template

if TYPE_CHECKING:
    from mlaudit.capture.hooks import Audit, Call
    from mlaudit.pipeline.pipeline import Pipeline

COMPONENT: Final = "capture.flask"
_USERS: Final = ("user", "current_user", "flask_httpauth_user")


class FlaskIntegration:
    """See ``capture.integrations.Integration``."""

    name: ClassVar[str] = "flask"
    module: ClassVar[str] = "flask.app"

    def __init__(self) -> None:
        self._hooks = Hooks(COMPONENT)

    def instrument(self) -> None:
        """Hooks the application as a server calls it, the dispatch of a request, and the handling of errors."""
        from flask.app import Flask

        if self._hooks.are_set:
            return
        original = Flask.__call__

        @functools.wraps(original)
        def call(self: Any, environ: Any, start_response: Any) -> Any:
            return audited(functools.partial(original, self), environ, start_response)

        self._hooks.replace(Flask, "__call__", call)
        self._hooks.around(Flask, "full_dispatch_request", _dispatched)
        self._hooks.around(Flask, "handle_user_exception", _failed)
        self._hooks.around(Flask, "handle_exception", _failed)

    def uninstrument(self) -> None:
        """Puts the originals back."""
        self._hooks.undo()


def _dispatched(_current: Pipeline, _call: Call) -> Audit:
    from flask import g, request

    scope = request.environ.get(MARK)
    if scope is None:
        return
    if request.url_rule is not None:
        scope["route"] = Template(request.url_rule.rule)
    yield
    logged_in = g.get("_login_user")
    if logged_in is not None:
        scope["user"] = logged_in
    user = next((found for name in _USERS if (found := g.get(name)) is not None), None)
    scope["state"] = {"actor": g.get("actor"), "user": user}


def _failed(_current: Pipeline, call: Call) -> Audit:
    from flask import request

    error = next((one for one in call.args if isinstance(one, Exception)), None)
    scope = request.environ.get(MARK)
    if scope is not None and error is not None:
        scope[ERROR] = type(error).__name__
    yield
