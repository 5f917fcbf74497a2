"""A fake of the Kubernetes API: discovery, list and watch, as its documentation describes them, over plain HTTP."""

from __future__ import annotations

import json
import queue
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import yaml

_RESOURCES = {
    "/api/v1": {"nodes": "Node", "events": "Event"},
    "/apis/apps/v1": {"deployments": "Deployment", "statefulsets": "StatefulSet", "daemonsets": "DaemonSet"},
}
_CLUSTERED = {"nodes"}


class FakeKubernetes:
    """Sends each change to every watcher of the resource; stores nothing."""

    def __init__(self) -> None:
        self.watchers: dict[str, list[queue.Queue[bytes | None]]] = {}
        self._lock = threading.Lock()
        self._version = 100

    def watch(self, resource: str) -> queue.Queue[bytes | None]:
        """The events for a new watcher, one line at a time."""
        lines: queue.Queue[bytes | None] = queue.Queue()
        with self._lock:
            self.watchers.setdefault(resource, []).append(lines)
        return lines

    def tell(self, resource: str, type_: str, **content: Any) -> None:
        """Sends that an object of ``resource`` was ``ADDED``, ``MODIFIED`` or ``DELETED``."""
        group = next(path for path, resources in _RESOURCES.items() if resource in resources)
        with self._lock:
            self._version += 1
            metadata = {"resourceVersion": str(self._version), **content.pop("metadata", {})}
            about = {
                "apiVersion": group.removeprefix("/apis/").removeprefix("/api/"),
                "kind": _RESOURCES[group][resource],
                "metadata": metadata,
                **content,
            }
            line = json.dumps({"type": type_, "object": about}).encode() + b"\n"
            for watcher in self.watchers.get(resource, ()):
                watcher.put(line)

    def end(self) -> None:
        """Ends every watch."""
        for watchers in self.watchers.values():
            for watcher in watchers:
                watcher.put(None)

    def answer(self, path: str) -> dict[str, Any] | None:
        """The response to a plain GET; None for an unknown path."""
        if path == "/api":
            return {"kind": "APIVersions", "versions": ["v1"]}
        if path == "/apis":
            version = {"groupVersion": "apps/v1", "version": "v1"}
            group = {"name": "apps", "versions": [version], "preferredVersion": version}
            return {"kind": "APIGroupList", "apiVersion": "v1", "groups": [group]}
        if path in _RESOURCES:
            return {
                "kind": "APIResourceList",
                "groupVersion": path.removeprefix("/apis/").removeprefix("/api/"),
                "resources": [
                    {
                        "name": name,
                        "singularName": kind.lower(),
                        "namespaced": name not in _CLUSTERED,
                        "kind": kind,
                        "verbs": ["get", "list", "watch"],
                    }
                    for name, kind in _RESOURCES[path].items()
                ],
            }
        group, _, resource = path.rpartition("/")
        if resource not in _RESOURCES.get(group, ()):
            return None
        return {
            "kind": f"{_RESOURCES[group][resource]}List",
            "apiVersion": group.removeprefix("/apis/").removeprefix("/api/"),
            "metadata": {"resourceVersion": "100"},
            "items": [],
        }


@contextmanager
def fake_kubernetes(kubeconfig: Path) -> Iterator[FakeKubernetes]:
    """Serves on a free port and writes the kubeconfig file."""
    fake = FakeKubernetes()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            url = urlsplit(self.path)
            answer = fake.answer(url.path)
            if answer is None:
                self.send_error(404)
            elif parse_qs(url.query).get("watch"):
                self._watch(url.path.rpartition("/")[2])
            else:
                body = json.dumps(answer).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

        def _watch(self, resource: str) -> None:
            lines = fake.watch(resource)
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Connection", "close")
            self.end_headers()
            self.close_connection = True
            while (line := lines.get()) is not None:
                try:
                    self.wfile.write(line)
                    self.wfile.flush()
                except OSError:
                    return

        def log_message(self, *_: Any) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    cluster = {"server": f"http://127.0.0.1:{server.server_address[1]}"}
    kubeconfig.write_text(
        yaml.safe_dump(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "clusters": [{"name": "fake", "cluster": cluster}],
                "users": [{"name": "nobody", "user": {}}],
                "contexts": [{"name": "fake", "context": {"cluster": "fake", "user": "nobody"}}],
                "current-context": "fake",
            }
        )
    )
    try:
        yield fake
    finally:
        fake.end()
        server.shutdown()
        thread.join()
        server.server_close()
