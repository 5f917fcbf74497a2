"""Code under audit with the hooks of the integrations that a test names; for ``make test-deep`` alone."""

from __future__ import annotations

import importlib.util
import os

# Nothing is downloaded: every model is built from its own configuration.
os.environ.update(HF_HUB_OFFLINE="1", KERAS_BACKEND="jax", JAX_PLATFORMS="cpu", CUDA_VISIBLE_DEVICES="")

from tests.unit.capture.conftest import broken, hooked

# In "make test" none of them is there, and in "make test-versions" one at a time.
_LIBRARIES = ("torch", "lightning", "transformers", "keras")
_missing = [name for name in _LIBRARIES if importlib.util.find_spec(name) is None]
collect_ignore = [f"test_{name}.py" for name in (*_missing, *(["together", "program"] if _missing else []))]

__all__ = ["broken", "hooked"]
