"""Django, behind WSGI and ASGI: every request goes through ``audited``, with its route, its user and its logins.

A user is known once the application looked at ``request.user``: asking for it here would query the session and the
database for requests that do not. Logins are reported by the signals of ``django.contrib.auth``, because Django answers
200 to a login that fails.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, ClassVar, Final

from mlaudit.capture.credentials import Credential, Failure
from mlaudit.capture.hooks import Hooks
from mlaudit.capture.origin import originate
from mlaudit.capture.request_context import open_trail
from mlaudit.capture.web import asgi
from mlaudit.capture.web.authentication import accepted, rejected
from mlaudit.capture.web.http_exchange import ERROR
from mlaudit.capture.web.wsgi import audited
from mlaudit.capture.web.wsgi_exchange import MARK
from mlaudit.capture.web.wsgi_request import Template
from mlaudit.catalog.names import ACCESS_AUTHENTICATION_SUCCEEDED
from mlaudit.errors import AuditRefusedError
from mlaudit.event import SUCCESS, Actor, AuditEvent, Target
from mlaudit.pipeline import current

if TYPE_CHECKING:
    from collections.abc import Callable

    from mlaudit.capture.hooks import Audit, Call
    from mlaudit.pipeline.pipeline import Pipeline

COMPONENT: Final = "capture.django"
_UID: Final = "mlaudit"
_LONGEST: Final = 256
_PASSWORD: Final = "password"  # noqa: S105 - the name of a login method


class DjangoIntegration:
    """See ``capture.integrations.Integration``."""

    name: ClassVar[str] = "django"
    module: ClassVar[str] = "django"

    def __init__(self) -> None:
        self._hooks = Hooks(COMPONENT)

    def instrument(self) -> None:
        """Hooks the handlers, the making of a response and of error pages, and the login signals once they exist."""
        if self._hooks.are_set:
            return
        self._hooks.when_imported("django.core.handlers.base", self._watch_requests)
        self._hooks.when_imported("django.core.handlers.exception", self._watch_errors)
        self._hooks.when_imported("django.core.handlers.wsgi", self._serve_wsgi)
        self._hooks.when_imported("django.core.handlers.asgi", self._serve_asgi)
        self._hooks.when_imported("django.contrib.auth.signals", self._watch_logins)

    def uninstrument(self) -> None:
        """Puts the originals back and disconnects the signals."""
        self._hooks.undo()

    def _watch_requests(self, module: Any) -> None:
        self._hooks.around(module.BaseHandler, "get_response", _responded)
        self._hooks.around(module.BaseHandler, "get_response_async", _responded)

    def _watch_errors(self, module: Any) -> None:
        self._hooks.around(module, "response_for_exception", _failed)

    def _serve_wsgi(self, module: Any) -> None:
        original = module.WSGIHandler.__call__

        @functools.wraps(original)
        def call(self: Any, environ: Any, start_response: Any) -> Any:
            return audited(functools.partial(original, self), environ, start_response)

        self._hooks.replace(module.WSGIHandler, "__call__", call)

    def _serve_asgi(self, module: Any) -> None:
        original = module.ASGIHandler.__call__

        @functools.wraps(original)
        async def call(self: Any, scope: Any, receive: Any, send: Any) -> None:
            lives = scope["type"] == "lifespan" and current.pipeline() is not None
            app = _live if lives else functools.partial(original, self)
            await asgi.audited(app, scope, receive, send)

        self._hooks.replace(module.ASGIHandler, "__call__", call)

    def _watch_logins(self, module: Any) -> None:
        for signal, receiver in (
            (module.user_logged_in, _logged_in),
            (module.user_login_failed, _login_failed),
        ):
            # Not weakly: there is no other reference to it.
            signal.connect(_contained(receiver), weak=False, dispatch_uid=_UID)
            self._hooks.when_undone(functools.partial(signal.disconnect, dispatch_uid=_UID))


async def _live(_scope: Any, receive: Any, send: Any) -> None:
    """Answers the server's lifespan, which Django does not support, to detect the shutdown of the service."""
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return


def _responded(_current: Pipeline, call: Call) -> Audit:
    request = call.argument(0, "request")
    scope = _scope_of(request)
    if scope is None:
        return
    yield
    match = getattr(request, "resolver_match", None)
    if match is not None and match.route:
        # Django's templates do not begin with a slash, everybody else's do.
        scope["route"] = Template(match.route if match.route.startswith(("/", "^")) else f"/{match.route}")
    user = _user_of(request)
    if user is not None:
        scope["user"] = user
        scope["auth"] = _Rights(user)


def _failed(_current: Pipeline, call: Call) -> Audit:
    scope = _scope_of(call.argument(0, "request"))
    error = call.argument(1, "exc")
    if scope is not None and error is not None:
        scope[ERROR] = type(error).__name__
    yield


def _scope_of(request: Any) -> Any:
    """The scope of the request's exchange, None when there is none."""
    environ = getattr(request, "environ", None)
    if environ is not None:
        return environ.get(MARK)
    scope = getattr(request, "scope", None)
    return scope if scope is not None and asgi.MARK in scope else None


def _user_of(request: Any) -> Any:
    """The user, if the application has read it."""
    from django.utils.functional import LazyObject

    known = vars(request)
    # "user" itself is lazy until it is read, unless a login or a framework has set it.
    found = (known.get(name) for name in ("user", "_cached_user", "_acached_user"))
    seen = (user for user in found if user is not None and type(user).__mro__.count(LazyObject) == 0)
    return next((user for user in seen if getattr(user, "is_authenticated", False)), None)


class _Rights:
    """The permissions of a user that are known without a database query."""

    def __init__(self, user: Any) -> None:
        flags = (("superuser", "is_superuser"), ("staff", "is_staff"))
        self.scopes = tuple(name for name, flag in flags if getattr(user, flag, False) is True)


def _contained(receiver: Callable[[Pipeline, dict[str, Any]], None]) -> Callable[..., None]:
    @functools.wraps(receiver)
    def receive(**given: Any) -> None:
        pipeline = current.pipeline()
        if pipeline is None:
            return
        try:
            receiver(pipeline, given)
        except AuditRefusedError:
            return  # counted by the pipeline; the login has already happened
        except Exception as error:  # noqa: BLE001 - auditing never breaks the program
            pipeline.fault(COMPONENT, error)

    return receive


def _logged_in(pipeline: Pipeline, given: dict[str, Any]) -> None:
    user, request = given.get("user"), given.get("request")
    name = _name_of(user)
    if not name:
        return
    actor = Actor(name, method="authenticated")
    path = getattr(request, "path", "")
    if (
        open_trail() is not None
        and pipeline.policy.route_kind("POST", path) == ACCESS_AUTHENTICATION_SUCCEEDED
    ):
        accepted(pipeline, Credential(_PASSWORD, actor=actor, verified=True))  # in the request's record
        return
    target = Target("route", path) if path else Target("service", pipeline.settings.service_name)
    fields = {"audit.access.scheme": _PASSWORD, "url.path": path}
    pipeline.emit(
        originate(
            AuditEvent(
                ACCESS_AUTHENTICATION_SUCCEEDED,
                SUCCESS,
                actor,
                target,
                {key: value for key, value in fields.items() if value},
            )
        )
    )


def _login_failed(pipeline: Pipeline, given: dict[str, Any]) -> None:
    credentials = given.get("credentials") or {}
    # Other names of credentials are defined by the backend: they may be secrets.
    name = next((credentials[key] for key in ("username", "email") if credentials.get(key)), "")
    actor = Actor(str(name)[:_LONGEST], method="credential") if name else None
    rejected(pipeline, Failure(_PASSWORD, "", "no backend accepted the credential", actor))


def _name_of(user: Any) -> str:
    get = getattr(user, "get_username", None)
    return str(get())[:_LONGEST] if get is not None else ""
