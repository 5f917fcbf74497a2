"""Routes: the event kind of a request, and the model that its path names."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from mlaudit.policy.globs import capture_regex, route_regex
from mlaudit.policy.vocabulary import NOT_AUDITED

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mlaudit.policy.model import Route


class _CompiledRoute(NamedTuple):
    kind: str
    captures: re.Pattern[str] | None


_Table = tuple[re.Pattern[str], tuple[_CompiledRoute, ...]]


class RouteTables:
    """The routes of a policy: one regular expression per method, whose first alternative that matches decides."""

    def __init__(self, routes: Sequence[Route]) -> None:
        """Compile the routes, whose paths are already validated."""
        methods = {method for route in routes for method in route.methods or ()}
        tables = {method: _table(routes, method) for method in methods}
        self._tables = {method: table for method, table in tables.items() if table is not None}
        self._any_method = _table(routes, None)

    def kind(self, method: str, path: str) -> str | None:
        """The event kind of a request; "" when it is deliberately not audited, None when no route matches."""
        route = self._find(method, path)
        if route is None:
            return None
        return "" if route.kind == NOT_AUDITED else route.kind

    def model(self, method: str, path: str) -> tuple[str, str]:
        """Name and version of a model, as matched by ``{model}`` and ``{version}`` of the request's route; else ""."""
        route = self._find(method, path)
        found = None if route is None or route.captures is None else route.captures.fullmatch(path)
        if found is None:
            return "", ""
        named = found.groupdict()
        return named.get("model", ""), named.get("version", "")

    def _find(self, method: str, path: str) -> _CompiledRoute | None:
        table = self._tables.get(method, self._any_method)
        if table is None:
            return None
        pattern, routes = table
        found = pattern.fullmatch(path)
        return None if found is None or found.lastindex is None else routes[found.lastindex - 1]


def _table(routes: Sequence[Route], method: str | None) -> _Table | None:
    chosen = [route for route in routes if route.methods is None or method in route.methods]
    if not chosen:
        return None
    # A trailing slash is the same route, as in most frameworks.
    body = "|".join(f"({route_regex(route.path)}/?)" for route in chosen)
    compiled = (_CompiledRoute(route.kind, capture_regex(route.path)) for route in chosen)
    return re.compile(body, re.DOTALL), tuple(compiled)
