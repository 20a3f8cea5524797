# make demo: set up, run the quickstart, say where the page is.   make test: set up, then all checks.
PYTHON ?= python3
VENV ?= .venv
OUT ?= runs/quickstart
BIN := $(VENV)/bin
WORKERS := $(shell n=$$(nproc 2>/dev/null || sysctl -n hw.ncpu 2>/dev/null || echo 2); [ $$n -gt 4 ] && n=4; echo $$n)
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet -c constraints.txt

.PHONY: demo test lint clean

demo: $(VENV)/.installed
	$(BIN)/sightline run recipes/quickstart.yaml --out $(OUT)
	@echo
	@echo "Open the page:  $(abspath $(OUT))/report.html"

# One thread a worker: the tests' models are too small to share, and two workers' threads would fight for the cores.
test: lint
	OMP_NUM_THREADS=1 HF_HUB_OFFLINE=1 $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/mypy

# The stamps are older than what they were made from only when that changed: so nothing is installed twice.
$(VENV)/.installed: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) -e .
	@touch $@

$(VENV)/.installed-dev: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) -e ".[dev]"
	@touch $(VENV)/.installed $@

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

clean:
	rm -rf $(VENV) dist .pytest_cache .ruff_cache .mypy_cache
