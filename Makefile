# Builds what each target needs the first time and reuses it after. Only Python >= 3.11 and make are assumed.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

DOCS_READY := $(VENV)/.docs-ready

.PHONY: demo test test-fast coverage matrix lint bench docs clean

$(READY): pyproject.toml requirements.lock
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "fairveil needs Python 3.11 or newer: make PYTHON=python3.11 …")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint requirements.lock --editable '.[dev]'
	command -v npm >/dev/null || $(BIN)/python -m pip install --quiet --constraint requirements.lock --editable '.[node]'
	touch $@

demo: $(READY)  ## protect a public-domain portrait and show who recognized it before and who still does
	$(BIN)/python examples/demo.py

test: $(READY)  ## every test, as many at a time as there are cores
	$(BIN)/python -m pytest --numprocesses auto --dist worksteal

test-fast: $(READY)  ## the tests that need no more than seconds
	$(BIN)/python -m pytest --numprocesses auto --dist worksteal -m "not slow"

coverage: $(READY)  ## which lines of the code the tests run, and which they miss; at least 90 % of them are run
	$(BIN)/python -m pytest --numprocesses auto --dist worksteal --cov --cov-report=term:skip-covered --cov-report=html:out/coverage

matrix: $(READY)  ## the fast tests on every Python we name, and with the lowest versions that pyproject.toml admits
	$(BIN)/python -m pip install --quiet uv==0.13.9
	for python in 3.11 3.12 3.13; do \
	  $(BIN)/uv venv --quiet --clear --python $$python out/matrix/$$python && \
	  $(BIN)/uv pip install --quiet --python out/matrix/$$python --constraint requirements.lock --editable '.[dev]' && \
	  out/matrix/$$python/bin/python -m pytest --numprocesses auto --dist worksteal -m "not slow" -q || exit 1; \
	done
	$(BIN)/uv venv --quiet --clear --python 3.11 out/matrix/lowest
	$(BIN)/uv pip install --quiet --python out/matrix/lowest --resolution lowest-direct --editable '.[dev]'
	out/matrix/lowest/bin/python -m pytest --numprocesses auto --dist worksteal -m "not slow" -q

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(READY)  ## speed and memory, as ratios within one run
	$(BIN)/python bench/protect.py --sizes 640,1600
	$(BIN)/python bench/protect.py --sizes 4000 --literal-steps 5
	$(BIN)/python bench/identify.py
	$(BIN)/python bench/audit.py
	$(BIN)/python bench/training.py
	$(BIN)/python bench/recognizers.py
	$(BIN)/python bench/augmentations.py

$(DOCS_READY): $(READY)
	$(BIN)/python -m pip install --quiet --constraint requirements.lock --editable '.[docs]'
	touch $@

docs: $(DOCS_READY)  ## the documentation site, in out/docs; FAIRVEIL_STUDIES=FOLDER makes its results from records of studies
	$(BIN)/mkdocs build --strict
	@echo "Open out/docs/index.html in a browser."

clean:
	rm -rf $(VENV) out build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
