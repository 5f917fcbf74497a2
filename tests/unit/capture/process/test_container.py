"""The container that a process runs in, from what the kernel shows and from what the environment says."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from mlaudit.capture.process.container import container_fields, container_id

if TYPE_CHECKING:
    from pathlib import Path

ID = "3b1f6c0d9e8a4c7fb2d15e60a9c8d7e6f5a4b3c2d1e0f9a8b7c6d5e4f3a2b1c0"
OTHER = "f" * 64
TASK = "0123456789abcdef0123456789abcdef-1234567890"


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (f"12:memory:/docker/{ID}", ID),
        (f"0::/system.slice/docker-{ID}.scope", ID),
        (f"0::/docker/{OTHER}/docker/{ID}", ID),
        (f"0::/docker/{ID}/init.scope", ID),
        (f"11:cpu,cpuacct:/kubepods/burstable/pod6bd0e2f4-7d4e-4a57-9d2c-1c0f0b7c8a11/{ID}", ID),
        (f"0::/kubepods.slice/kubepods-pod6bd0e2f4_7d4e.slice/cri-containerd-{ID}.scope", ID),
        (f"0::/system.slice/containerd.service/kubepods-besteffort-pod1.slice:cri-containerd:{ID}", ID),
        (f"1:name=systemd:/kubepods.slice/kubepods-pod6bd0e2f4.slice/crio-{ID}.scope", ID),
        (f"0::/machine.slice/libpod-{ID}.scope/container", ID),
        (f"9:perf_event:/ecs/0123456789abcdef0123456789abcdef/{TASK}", TASK),
        ("0::/user.slice/user-1000.slice/session-3.scope", ""),
        ("0::/", ""),
        ("", ""),
    ],
)
def test_control_group_is_named_after_the_container(tmp_path: Path, line: str, expected: str) -> None:
    """Each runtime's way of naming a control group gives the id, the innermost where they are nested."""
    (tmp_path / "cgroup").write_text(f"{line}\n")
    assert container_id(tmp_path) == expected


@pytest.mark.parametrize(
    ("mounts", "expected"),
    [
        (
            [f"703 691 254:1 /var/lib/docker/containers/{ID}/hostname /etc/hostname rw - ext4 /dev/vda1 rw"],
            ID,
        ),
        (
            [
                f"1 2 0:23 /overlay-containers/{OTHER}/userdata/hostname /etc/hostname rw - tmpfs tmpfs rw",
                f"1 2 0:23 /overlay-containers/{ID}/userdata/.containerenv /run/.containerenv rw - tmpfs tmpfs rw",
            ],
            ID,
        ),
        (
            [f"1 2 0:23 /containers/overlay-containers/{ID}/userdata/hostname /etc/hostname rw - tmpfs t rw"],
            ID,
        ),
        (
            [
                f"1 2 8:1 /var/lib/containerd/io.containerd.grpc.v1.cri/sandboxes/{OTHER}/hostname /etc/hostname rw"
            ],
            "",
        ),
        (["too short", ""], ""),
    ],
)
def test_mounts_tell_it_in_a_cgroup_namespace(tmp_path: Path, mounts: list[str], expected: str) -> None:
    """With cgroup v2 the mounts of docker, podman and CRI-O name the container; containerd's name another one."""
    (tmp_path / "cgroup").write_text("0::/\n")
    (tmp_path / "mountinfo").write_text("\n".join(mounts))
    assert container_id(tmp_path) == expected


def test_no_proc_is_no_container(tmp_path: Path) -> None:
    """Where the kernel shows nothing there is no id, and no error."""
    assert container_fields({}, tmp_path / "missing") == {}


def test_image_is_what_the_environment_says(tmp_path: Path) -> None:
    """Name, tags and digests come from OTEL_RESOURCE_ATTRIBUTES, in OpenTelemetry's names or in ECS's."""
    digest = "sha256:" + "9f" * 32
    said = (
        f"container.id=abc,container.image.name=registry.example/loan@{digest},container.image.tags=1.4.0;latest,"
        f"container.image.repo_digests=registry.example/loan@{digest},container.image.id=sha256:77"
    )
    assert container_fields({"OTEL_RESOURCE_ATTRIBUTES": said}, tmp_path) == {
        "container.id": "abc",
        "container.image.name": "registry.example/loan",
        "container.image.tag": ["1.4.0", "latest"],
        "container.image.hash.all": [digest, "sha256:77"],
    }
