"""From an unmodified model service to a provable record in Elasticsearch, and what happens when it is altered.

Writes ``summary.json`` into ``build/demo``, or into the folder given. Fails when a result is not as expected.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

from rich.console import Console

from examples.demo import show
from examples.demo.scene import Scene
from examples.demo.store import Store
from examples.programs import is_complete, sealed_records
from mlaudit.deliver.spool.layout import streams
from mlaudit.detect.plans import load_plans
from mlaudit.stack.local_stack import Stack

FOLDER = Path(sys.argv[1] if len(sys.argv) > 1 else "build/demo")
STORED_SECONDS = 60.0
console = Console(highlight=False)
began = time.monotonic()


def step(text: str) -> None:
    """Prints the current step, with the time since the start."""
    console.print(f"[dim]{time.monotonic() - began:6.1f}s[/]  {text}")


def play(scene: Scene) -> None:
    """Runs all audited programs."""
    scene.prepare()
    step("training a model on the breast cancer data set, audited by MLAUDIT_ENABLED=true alone")
    step(f"[dim]{scene.train().splitlines()[-1]}[/]")
    step("starting the model service, audited by MLAUDIT_ENABLED=true alone")
    with scene.service() as service:
        step("alice, bob and carol ask for predictions; some calls are invalid, some make the service fail")
        service.predict("alice", 60)
        service.predict("bob", 40, rows=5)
        service.predict_badly("bob", 8)
        service.predict("carol", 220)
        step(
            "mallory guesses passwords; dave oversteps his role; alice sends nonsense until something passes"
        )
        service.guess_passwords("mallory", 24)
        service.overstep("dave", 12)
        service.predict_badly("alice", 16)
        service.predict("alice", 1)
        step("erin changes the threshold through the admin route, with a ticket and without one")
        service.set_threshold("erin", 0.4, **{"X-Change-Ticket": "CHG-1042", "X-Change-Approver": "alice"})
        service.set_threshold("erin", 0.3)
        step("the configuration file is edited")
        scene.configure(threshold=0.45)
        service.predict("bob", 5)
        time.sleep(1.0)
    step("the service was stopped with SIGTERM; it starts again")
    with scene.service() as service:
        service.predict("alice", 10)
        step("somebody replaces the model file; the service loads it")
        scene.replace_model()
        scene.configure(threshold=0.5)
        service.predict("alice", 5)
        time.sleep(1.0)
        step("kill -9 in the middle of its work")
        service.predict("bob", 5)
        service.kill()
    step("a program with the recommender's token writes a record in the name of the model service")
    scene.impersonate("tumour-service", sender="recommender")
    step("it starts a last time, closes what the killed process left behind, and stops")
    with scene.service() as service:
        service.predict("alice", 3)
        scene_left_behind(scene)


def scene_left_behind(scene: Scene) -> None:
    """Waits until the service has adopted the stream of its killed predecessor."""
    spool = scene.folder / "state" / "spool"
    deadline = time.monotonic() + STORED_SECONDS
    while len(streams(spool)) > 1 and time.monotonic() < deadline:
        time.sleep(0.1)


def command(scene: Scene, *arguments: str) -> tuple[int, dict[str, Any]]:
    """Runs an ``mlaudit`` command as the reader of the audit data streams; its exit code and its JSON."""
    user, password = scene.stack.reader_auth
    environment = {
        "MLAUDIT_ES_USERNAME": user,
        "MLAUDIT_ES_PASSWORD": password,
        "MLAUDIT_STATE_DIR": str(scene.folder / "state"),
        "PATH": "",
    }
    trust = ["--ca-file", str(scene.stack.ca_file)] if scene.stack.ca_file else []
    line = [
        str(Path(sys.executable).with_name("mlaudit")), *arguments,
        "--elasticsearch", scene.stack.elasticsearch_url, *trust, "--json",
    ]  # fmt: skip
    done = subprocess.run(line, env=environment, capture_output=True, text=True, check=False)
    try:
        answer: dict[str, Any] = json.loads(done.stdout)
    except ValueError:
        raise SystemExit(
            f"mlaudit {' '.join(arguments)} gave no JSON ({done.returncode}):\n{done.stdout}{done.stderr}"
        ) from None
    return done.returncode, answer


def verify(scene: Scene) -> dict[str, Any]:
    """``mlaudit verify`` over Elasticsearch, reduced to the fields of the summary."""
    code, report = command(scene, "verify")
    show.verification(console, report, code)
    return {"ok": report["ok"], "records": report["records"], "findings": report["findings"]}


def wait_until_stored(archive: Path, store: Store) -> tuple[dict[str, dict[str, Any]], int]:
    """The sealed records and the number of stored ones, once both are complete or time is up."""
    deadline = time.monotonic() + STORED_SECONDS
    while True:
        sealed = sealed_records(archive)
        stored = store.count()
        if (is_complete(sealed) and stored >= len(sealed)) or time.monotonic() > deadline:
            return sealed, stored
        time.sleep(0.2)


def faults_of(summary: dict[str, Any], kinds_wanted: set[str]) -> list[str]:
    """The unexpected values in the summary."""
    faults = []
    sealed = sum(summary["events"].values())
    if missing := kinds_wanted - set(summary["events"]):
        faults.append(f"no event of kind {', '.join(sorted(missing))}")
    if summary["elasticsearch_documents"] != sealed:
        faults.append(f"{sealed} records sealed, {summary['elasticsearch_documents']} stored")
    if not summary["verify_before"]["ok"] or summary["verify_before"]["records"] != sealed:
        faults.append("verify did not find everything in order before the tampering")
    after = summary["verify_after"]
    if after["ok"] or len(after["findings"]) < 2:
        faults.append("verify did not find what the demo had altered and deleted")
    faults += [f"rule {rule} raised no alert" for rule, count in summary["alerts"].items() if not count]
    return faults


WANTED = {
    "audit.access.authentication.failed",
    "audit.access.denied",
    "audit.ml.config.changed",
    "audit.ml.model.loaded",
    "audit.ml.model.saved",
    "audit.ml.prediction",
    "audit.ml.training.completed",
    "audit.ml.training.started",
    "audit.policy.loaded",
    "audit.service.started",
    "audit.service.stopped",
    "audit.stream.abandoned",
    "audit.stream.ended",
    "audit.stream.started",
}


def main() -> int:
    """Runs the demo; 0 when every result is as expected."""
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir(parents=True, exist_ok=True)
    FOLDER.chmod(0o755)
    archive = FOLDER / "archive.jsonl"
    with Stack(FOLDER / "stack", fresh=True, quick=True, archive=archive, report=step) as stack:
        scene = Scene(FOLDER.resolve(), stack)
        play(scene)
        store = Store(stack)
        step("waiting until Elasticsearch has every record")
        sealed, stored = wait_until_stored(archive, store)
        events = Counter(record["audit.kind"] for record in sealed.values())
        show.kinds(console, events, stored)
        show.story(console, store.one_prediction())
        step("mlaudit detect --once")
        _, found = command(scene, "detect", "--once", "--since", "1h")
        show.alerts(console, found["alerts"])
        step("mlaudit verify")
        before = verify(scene)
        step("now the demo alters one document in Elasticsearch and deletes another")
        show.tampering(console, store.alter_one(), store.delete_one())
        step("mlaudit verify")
        after = verify(scene)
        counted = Counter(alert["rule_id"] for alert in found["alerts"])
        summary = {
            "events": dict(sorted(events.items())),
            "elasticsearch_documents": stored,
            "verify_before": before,
            "verify_after": after,
            "alerts": {plan.id: counted[plan.id] for plan in load_plans()},
            "seconds": round(time.monotonic() - began, 1),
        }
        (FOLDER / "summary.json").write_text(json.dumps(summary, indent=2) + "\n")
    faults = faults_of(summary, WANTED)
    for fault in faults:
        console.print(f"[red]not as it must be:[/] {fault}")
    step(f"[green]done[/], see {FOLDER / 'summary.json'}" if not faults else "[red]failed[/]")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
