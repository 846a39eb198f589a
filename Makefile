# Two commands do everything: `make demo` and `make test`. Both make their own virtual environment in .venv.
# Another Python: make test PYTHON=python3.13 VENV=.venv313

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
DEMO ?= demo
TESTS := -n auto --dist loadfile# as many processes as there are cores, each with its own files
SCREEN := xvfb-run -a -s "-screen 0 1600x1000x24"

.PHONY: demo test test-all lint bench reference screen clean

demo: $(VENV)/.core          ## draw a study with known truth, run it, show measured against planted
	$(BIN)/mihc demo $(DEMO)

test: $(VENV)/.test screen   ## the tests, the plugin's on a virtual screen, the report's in a browser
	$(SCREEN) $(BIN)/python -m pytest -m "not slow" $(TESTS)

test-all: $(VENV)/.test screen   ## the slow ones too (minutes)
	$(SCREEN) $(BIN)/python -m pytest $(TESTS)

lint: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

bench: $(VENV)/.test         ## speed and accuracy beside peers; see benchmarks/README.md
	$(BIN)/python -m benchmarks.run
	@if [ -n "$(DATA)" ]; then $(BIN)/python -m benchmarks.nuclei $(DATA) --overlays worst-nuclei; fi

reference: $(VENV)/.test     ## every case of a folder of R's answers (format: tests/reference/README.md): make reference DIR=...
	$(BIN)/python tests/reference_run.py $(or $(DIR),tests/reference)

screen:
	@sh .ci/virtual-screen

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "mihc needs Python 3.11 or newer; found `$(PYTHON) --version`. Try: make PYTHON=python3.12"; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { echo "Python's venv module is missing. On Debian: apt-get install python3-venv"; exit 1; }

$(VENV)/.core: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(PIP) install --no-compile -c constraints.txt -e .
	@touch $@

$(VENV)/.test: pyproject.toml constraints.txt plugins/napari/pyproject.toml | $(VENV)/bin/python
	$(PIP) install --no-compile -c constraints.txt -e ".[test]" -e plugins/napari
	@touch $@ $(VENV)/.core

clean:
	rm -rf $(VENV) .venv-cellpose .venv-stardist .venv-instanseg .venv-spatialdata $(DEMO) .pytest_cache .ruff_cache .hypothesis
