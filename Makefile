# make run    environment, then the default run; flags: make run ARGS='...'
# make demo   train a small embedder on the embedded corpus, index its test
#             clips, and open the page to search them
# make claims  the claims of the papers, tried with three seeds
# make test   environment with the test tools, then the tests
# make test-slow  the tests that take longest; .ci/run runs both
# make test-campaign  long campaigns of damage and kills, further full sizes
# make test-lowest  some of them with every dependency at its lower bound
# make lint   the same environment, then ruff and mypy
# make docs   the pages of docs/ as a site, build/site/index.html
PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python
ARGS ?=
DEMO ?= workdirs/demo
PYTEST_ARGS ?=
# Compiling takes most of the time, one core each.
WORKERS ?= -n logical --maxprocesses=4 --dist=loadfile

# The stamps say which installation was done last for this packaging.
INSTALLED := $(VENV)/installed.stamp
DEMO_INSTALLED := $(VENV)/demo_installed.stamp
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

# Every dependency at its bound in setup.cfg, in an environment of its own, and
# the tests of what depends most on them: media, records, weights, checkpoints.
LOWEST := .venv-lowest
LOWEST_INSTALLED := $(LOWEST)/installed.stamp
LOWEST_TESTS := tests/test_lowest.py tests/test_wheel.py tests/data \
  tests/report tests/scoring/test_trec.py tests/test_checkpoint.py \
  tests/test_config_files.py tests/test_loading.py tests/test_embedder.py \
  tests/models/test_pretrained.py tests/models/test_checkpoints.py \
  tests/models/test_live_checkpoints.py tests/models/test_layouts.py \
  tests/models/test_adapters.py \
  tests/models/test_rotary.py tests/models/test_decoder.py \
  tests/models/llava/test_adapter.py tests/models/qwen2_vl/test_full_size.py \
  tests/models/videochat/test_vision.py tests/methods/blim/test_convert.py \
  $(wildcard tests/models/test_adapter_*port.py tests/parity/test_unite_*.py) \
  tests/parity/test_blim_vision.py tests/parity/test_blim_text.py \
  tests/parity/test_blim_training.py tests/parity/test_mm_embed_inputs.py \
  tests/parity/test_mm_embed_load.py tests/parity/test_mm_embed_model.py \
  tests/parity/test_leccr_encoders.py tests/parity/test_leccr_data.py

.PHONY: run demo claims test test-slow test-campaign test-lowest lint docs parity tpu \
  browser clean

run: $(INSTALLED)
	$(RUN) -m jaxret.main --config=configs/blim.py $(ARGS)

# The second time it only opens the page.
demo: $(DEMO_INSTALLED)
	$(RUN) -m jaxret run --config=configs/unite.py --workdir=$(DEMO)/unite \
	  --config.data.root=$(DEMO)/corpus '--config.compare=()'
	$(RUN) -m jaxret index $(DEMO)/corpus/captions_test.json \
	  --model=$(DEMO)/unite --out=$(DEMO)/index
	$(RUN) -m jaxret serve $(DEMO)/index --open $(ARGS)

claims: $(INSTALLED)
	$(RUN) -m jaxret claims $(ARGS)

test: $(TEST_INSTALLED)
	$(RUN) -m pytest -q $(WORKERS) -m 'not slow' $(PYTEST_ARGS)

test-slow: $(TEST_INSTALLED)
	$(RUN) -m pytest -q $(WORKERS) -m 'slow and not campaign' $(PYTEST_ARGS)

test-campaign: $(TEST_INSTALLED)
	$(RUN) -m pytest -q $(WORKERS) -m campaign $(PYTEST_ARGS)

test-lowest: $(LOWEST_INSTALLED)
	$(LOWEST)/bin/python -m pytest -q $(WORKERS) -m 'not slow' \
	  $(LOWEST_TESTS) $(PYTEST_ARGS)
	$(LOWEST)/bin/python -m ruff check .
	$(LOWEST)/bin/python -m mypy

lint: $(TEST_INSTALLED)
	$(RUN) -m ruff check .
	$(RUN) -m mypy

docs: $(TEST_INSTALLED)
	$(INSTALL) -e '.[docs]'
	NO_MKDOCS_2_WARNING=1 $(RUN) -m mkdocs build --strict --quiet

# PyTorch, for the tests that compare with it directly. It comes first, so
# that peft takes this version.
parity: $(TEST_INSTALLED)
	$(INSTALL) 'torch==2.13.0'
	$(INSTALL) -e '.[parity,ecosystem,quantized,tensorboard]'

# The TPU compiler (about 140 MB), for the tests that compile for a pod.
tpu: $(TEST_INSTALLED)
	$(INSTALL) -e '.[tpu]'

# Playwright (about 50 MB), which drives a browser for the tests of the search
# page: Chromium or Chrome where one is on the path, else its own (180 MB).
browser: $(TEST_INSTALLED)
	$(INSTALL) -e '.[browser]'
	@command -v chromium || command -v chromium-browser || \
	  command -v google-chrome || $(RUN) -m playwright install chromium

clean:
	rm -rf $(VENV) $(LOWEST)

$(RUN):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "jaxret needs Python 3.11 or newer, but $(PYTHON) is" \
	    "$$($(PYTHON) --version 2>&1); name another: make PYTHON=python3.11" \
	    >&2; exit 1; }
	$(CREATE)

$(INSTALLED): $(PACKAGING) | $(RUN)
	$(INSTALL) -e .
	@touch $@

$(DEMO_INSTALLED): $(PACKAGING) | $(RUN)
	$(INSTALL) -e '.[index,serve]'
	@touch $@ $(INSTALLED)

$(TEST_INSTALLED): $(PACKAGING) | $(RUN)
	$(INSTALL) -e '.[test]'
	@touch $@ $(INSTALLED)

$(LOWEST_INSTALLED): VENV := $(LOWEST)
$(LOWEST_INSTALLED): RUN := $(LOWEST)/bin/python
$(LOWEST_INSTALLED): $(PACKAGING) .ci/lowest.py
	rm -rf $(VENV)
	$(CREATE)
	$(RUN) .ci/lowest.py > $(VENV)/lowest.txt
	$(INSTALL) -c $(VENV)/lowest.txt -e '.[test,parity,heif]'
	@touch $@
