"""One target under atheris: coverage-guided, until a time limit or a failure."""

from __future__ import annotations

import logging
import sys

import atheris

with atheris.instrument_imports(include=["mlaudit", "yaml"]):
    from tests.fuzz.targets import TARGETS


def main() -> None:
    """Takes the target's name, then libFuzzer's own arguments."""
    logging.getLogger("mlaudit").setLevel(logging.CRITICAL)
    target = TARGETS[sys.argv[1]]
    atheris.Setup([sys.argv[0], *sys.argv[2:]], target)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
