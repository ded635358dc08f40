# make run    environment, then the default run; flags: make run ARGS='...'
# make test   environment with the test tools, then the tests
# make test-slow  the tests that take longest; .ci/run runs both
# make lint   the same environment, then ruff and mypy
PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python
ARGS ?=
PYTEST_ARGS ?=
# Compiling takes most of the time, one core each.
WORKERS ?= -n logical --maxprocesses=4 --dist=loadfile

# The stamps say which installation was done last for this packaging.
INSTALLED := $(VENV)/installed.stamp
TEST_INSTALLED := $(VENV)/test_installed.stamp
PACKAGING := setup.cfg setup.py pyproject.toml

ifneq ($(shell command -v uv 2>/dev/null),)
CREATE = uv venv --quiet --seed --python $(PYTHON) $(VENV)
INSTALL = uv pip install --python $(RUN)
else
CREATE = $(PYTHON) -m venv $(VENV)
# Bytecode is made on import, of what is imported alone.
INSTALL = $(RUN) -m pip install --quiet --disable-pip-version-check --no-compile
endif

.PHONY: run test test-slow lint parity tpu clean

run: $(INSTALLED)
	$(RUN) -m jaxret.main --config=configs/blim.py $(ARGS)

test: $(TEST_INSTALLED)
	$(RUN) -m pytest -q $(WORKERS) -m 'not slow' $(PYTEST_ARGS)

test-slow: $(TEST_INSTALLED)
	$(RUN) -m pytest -q $(WORKERS) -m slow $(PYTEST_ARGS)

lint: $(TEST_INSTALLED)
	$(RUN) -m ruff check .
	$(RUN) -m mypy

# PyTorch, for the tests that compare with it directly. It comes first, so
# that peft takes this version.
parity: $(TEST_INSTALLED)
	$(INSTALL) 'torch==2.13.0'
	$(INSTALL) -e '.[parity]'

# The TPU compiler (about 140 MB), for the tests that compile for a pod.
tpu: $(TEST_INSTALLED)
	$(INSTALL) -e '.[tpu]'

clean:
	rm -rf $(VENV)

$(RUN):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "jaxret needs Python 3.11 or newer, but $(PYTHON) is" \
	    "$$($(PYTHON) --version 2>&1); name another: make PYTHON=python3.11" \
	    >&2; exit 1; }
	$(CREATE)

$(INSTALLED): $(PACKAGING) | $(RUN)
	$(INSTALL) -e .
	@touch $@

$(TEST_INSTALLED): $(PACKAGING) | $(RUN)
	$(INSTALL) -e '.[test]'
	@touch $@ $(INSTALLED)
