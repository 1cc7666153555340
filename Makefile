# make setup: install into ./.venv   make demo: personalize the embedded model   make test   make lint
PYTHON ?= python3.11
BIN := .venv/bin

.PHONY: setup demo test lint clean

setup: .venv/installed

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt torch
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps open_clip_torch==3.3.0  # CLIP's vocabulary, for tests
	touch .venv/installed

demo: setup
	$(BIN)/zoodip demo --out demo-output

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test: setup
	$(BIN)/python -m pytest -n 2 --dist worksteal

clean:
	rm -rf .venv demo-output
