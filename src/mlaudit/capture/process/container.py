"""The container that this process runs in: its id from the kernel, its image from the environment.

No file in a container names its image, so the image is known only where ``OTEL_RESOURCE_ATTRIBUTES``
names it. Its values take precedence over detected ones.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from mlaudit.settings.variables import resource_attributes

if TYPE_CHECKING:
    from collections.abc import Mapping

_PROC: Final = Path("/proc/self")
# 64 hexadecimal digits, or an ECS task's 32 followed by a number.
_ID: Final = r"(?P<id>[0-9a-f]{64}|[0-9a-f]{32}-\d{4,20})"
# The innermost of: docker/ID, docker-ID.scope, cri-containerd-ID.scope, crio-ID.scope, libpod-ID.scope,
# …slice:cri-containerd:ID
_CGROUP: Final = re.compile(rf"^.*[/:-]{_ID}(?:\.scope)?(?:/.*)?$")
_DOCKER: Final = re.compile(rf"/containers/{_ID}/")
_OVERLAY: Final = re.compile(rf"/overlay-containers/{_ID}/userdata/")
_LISTED: Final = re.compile(r"[,;\s]+")
# The names in OTEL_RESOURCE_ATTRIBUTES: OpenTelemetry's, then ECS's.
_TAGS: Final = ("container.image.tags", "container.image.tag")
_HASHES: Final = (
    "container.image.repo_digests",
    "oci.manifest.digest",
    "container.image.id",
    "container.image.hash.all",
)


def container_fields(env: Mapping[str, str], proc: Path = _PROC) -> dict[str, Any]:
    """``container.*`` as far as it is known; empty outside of a container, without attributes."""
    said = resource_attributes(env)
    name, _, digest = said.get("container.image.name", "").partition("@")
    hashes = [digest, *(value for key in _HASHES for value in _LISTED.split(said.get(key, "")))]
    fields: dict[str, Any] = {
        "container.id": said.get("container.id", "") or container_id(proc),
        "container.image.name": name,
        "container.image.tag": _each(value for key in _TAGS for value in _LISTED.split(said.get(key, ""))),
        # A repository's digest is written registry/name@sha256:…
        "container.image.hash.all": _each(value.rpartition("@")[2] for value in hashes),
    }
    return {name: value for name, value in fields.items() if value}


def container_id(proc: Path = _PROC) -> str:
    """The id that docker, containerd, CRI-O, podman or ECS gave the container; "" when none is visible.

    With cgroup v1, or in the host's cgroup namespace, the control group is named after the container. In a cgroup
    namespace of its own a process sees ``/`` instead; docker, podman and CRI-O then still show in the mounts.
    containerd's mounts name the pod's sandbox, which is another container: they are not taken for an id.
    """
    for line in _lines(proc / "cgroup"):
        found = _CGROUP.match(line.partition(":")[2].partition(":")[2])
        if found:
            return found["id"]
    own = docker = overlay = ""
    for line in _lines(proc / "mountinfo"):
        parts = line.split(" ")
        if len(parts) < 5:
            continue
        root, place = parts[3], parts[4]
        if found := _OVERLAY.search(root):
            # CRI-O mounts the sandbox's host name, but the container's own .containerenv.
            overlay = overlay or found["id"]
            if place == "/run/.containerenv":
                own = found["id"]
        elif found := _DOCKER.search(root):
            docker = docker or found["id"]
    return own or docker or overlay


def _each(values: Any) -> list[str]:
    return [value for value in dict.fromkeys(values) if value]


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
