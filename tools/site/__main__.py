"""Builds the site: ``python -m tools.site``, behind ``make docs``."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from tools.site.links import broken
from tools.site.navigation import differences
from tools.site.output import faults
from tools.site.reference import stage_reference
from tools.site.staging import stage

ROOT = Path(__file__).parents[2]


def main() -> int:
    """Checks, stages, builds, and checks again; 1 when anything is wrong."""
    build = ROOT / "build"
    source, site = build / "docs-source", build / "docs"
    if wrong := [*differences(ROOT), *broken(ROOT)]:
        return _fail(wrong)
    stage(ROOT, source)
    stage_reference(source)
    shutil.rmtree(site, ignore_errors=True)
    sphinx = [
        sys.executable,
        "-m",
        "sphinx",
        "--quiet",
        "--fail-on-warning",
        "--builder",
        "html",
        "--jobs",
        "auto",
    ]
    where = ["--conf-dir", str(Path(__file__).parent), "--doctree-dir", str(build / "docs-doctrees")]
    done = subprocess.run([*sphinx, *where, str(source), str(site)], cwd=ROOT, check=False)
    if done.returncode:
        return done.returncode
    if wrong := faults(site):
        return _fail(wrong)
    print(f"The documentation is in {site.relative_to(ROOT)}/index.html")
    return 0


def _fail(wrong: list[str]) -> int:
    print(*wrong, sep="\n", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
