# The two commands of the README are `make demo` and `make test`. Everything they need is installed by `setup`;
# what cannot be installed from here (Python 3.11, JDK 21, Go, Maven) is named by the program that needs it.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
CHECKED := src tests tools examples benchmarks
# Whatever is set outside: without it every process of the tests compiles every library anew, minutes in all.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: setup demo test test-versions test-deep examples check format generate docs docs-test bench-quick fault fuzz tamper lock clean

setup: $(READY)

$(READY): pyproject.toml constraints/dev.txt constraints/bootstrap.txt src/mlaudit.pth
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "mlaudit needs Python 3.11 or newer; found $$($(PYTHON) --version 2>&1). Name another one: make PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet --require-hashes -r constraints/bootstrap.txt
	$(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes -r constraints/dev.txt
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation -e .
	@touch $@

demo: $(READY)
	$(BIN)/python -m examples.demo

# Two at a time: most of the time is spent waiting. A file stays together, and each of the two has its own stack.
test: $(READY)
	$(BIN)/pytest -n 2 --dist loadfile

# Each integration's tests with the oldest version of its library; results in build/versions/results.json.
test-versions: $(READY)
	$(BIN)/python -m tests.versions $(VERSIONS)

# PyTorch, Lightning, transformers and Keras, in an environment of their own: gigabytes of wheels.
DEEP := build/deep-venv
test-deep: $(DEEP)/.ready
	$(DEEP)/bin/python -m pytest -q tests/deep

$(DEEP)/.ready: $(READY) constraints/deep.txt
	$(BIN)/uv venv --quiet --clear --python $(BIN)/python $(DEEP)
	$(BIN)/uv pip install --quiet --python $(DEEP)/bin/python --require-hashes -r constraints/deep.txt
	$(BIN)/uv pip install --quiet --python $(DEEP)/bin/python --no-deps --no-build-isolation -e .
	@touch $@

# Every example, audited by the environment alone; which kinds each recorded is in build/examples/summary.json.
examples: $(READY)
	$(BIN)/python -m examples

check: $(READY)
	$(BIN)/ruff format --check $(CHECKED)
	$(BIN)/ruff check $(CHECKED)
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m tools.generate --check
	$(BIN)/pytest -q -n 2 --dist loadfile -m "not stack" tests/unit

# Guided by coverage where atheris is installed; FUZZ_SECONDS is for each of the targets.
FUZZ_SECONDS ?= 60
fuzz: $(READY)
	@$(BIN)/python -c "import atheris" 2>/dev/null || \
	  $(BIN)/uv pip install --quiet --python $(BIN)/python --group fuzz || echo "atheris cannot be installed: not guided"
	$(BIN)/python -m tests.fuzz --seconds $(FUZZ_SECONDS)

format: $(READY)
	$(BIN)/ruff format $(CHECKED)
	$(BIN)/ruff check --fix $(CHECKED)

generate: $(READY)
	$(BIN)/python -m tools.generate

# The site of docs/ in build/docs. After the first run it needs no network.
DOCS := build/docs-venv
docs: $(DOCS)/.ready
	$(DOCS)/bin/python -m tools.site

# The built site in a real browser; CHROMIUM names a browser that is not on the PATH.
docs-test: docs
	$(DOCS)/bin/python -m pytest -q -o addopts= --import-mode=importlib --confcutdir=tests/site tests/site

$(DOCS)/.ready: $(READY) constraints/docs.txt
	$(BIN)/uv venv --quiet --clear --python $(BIN)/python $(DOCS)
	$(BIN)/uv pip install --quiet --python $(DOCS)/bin/python --require-hashes -r constraints/docs.txt
	$(BIN)/uv pip install --quiet --python $(DOCS)/bin/python --no-deps --no-build-isolation -e .
	@touch $@

bench-quick: $(READY)
	$(BIN)/python -m benchmarks.quick

# Every fault of docs/faults.md on real processes; about an hour. FAULT='--only kill-script --scale 0.05' for a part of it.
fault: $(READY)
	$(BIN)/python -m tests.fault.matrix $(FAULT)

# A thousand tampers with a real trail, each found and reported; results in build/tamper/results.json.
tamper: $(READY)
	$(BIN)/python -m tests.tamper $(TAMPER)

# Renews all pins; run it after changing dependencies.
lock: $(READY)
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	  --no-annotate --no-header --group dev pyproject.toml -o constraints/dev.txt
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	  --no-annotate --no-header --group fuzz -o constraints/fuzz.txt
	printf '%s\n' editables hatchling | \
	  $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	  --no-annotate --no-header --group docs pyproject.toml - -o constraints/docs.txt
	printf '%s\n' editables hatchling joblib pytest pytest-timeout scikit-learn threadpoolctl | \
	  $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	  --no-annotate --no-header --group deep pyproject.toml - -o constraints/deep.txt
	echo uv | $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	  --no-emit-index-url --no-annotate --no-header - -o constraints/bootstrap.txt

clean:
	rm -rf build dist $(VENV)
