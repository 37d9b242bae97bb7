# Two commands: `make train` and `make test`. Both make .venv first; nothing happens where nothing changed.
#   make train ARGS="lr=1e-4 epochs=50"
#   make test ARGS="-k splits"
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed

.PHONY: train test venv lint bench clean

train: $(STAMP)
	$(BIN)/python train.py $(ARGS)

test: $(STAMP)
	$(BIN)/python -m pytest --numprocesses auto $(ARGS)

venv: $(STAMP)

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(STAMP)
	$(BIN)/python -m benchmarks $(ARGS)

clean:
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache

# A new environment only when there is none; new packages only when what pins them changed.
$(STAMP): pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check "pip>=25.1"  # knows --group
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable . --group dev
	touch $@

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' || { \
	  echo "error: $(PYTHON) is $$($(PYTHON) --version 2>&1); audioclf needs Python 3.11, 3.12 or 3.13"; \
	  echo "hint:  make venv PYTHON=python3.12"; exit 2; }
	$(PYTHON) -m venv .venv
