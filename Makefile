# `make help` lists the targets.
VERSIONS := $(shell sed -n 's/.*Python :: \(3\.[0-9]*\)".*/\1/p' pyproject.toml | sort -t. -k2 -rn)
CANDIDATES := $(VERSIONS:%=python%)
# The newest of them that runs: a pyenv shim may exist without a Python.
PYTHON ?= $(firstword $(foreach name,$(CANDIDATES),$(shell $(name) -c 'print("$(name)")' 2>/dev/null)))
IS_SUPPORTED := import sys; sys.exit("%d.%d" % sys.version_info[:2] not in sys.argv[1:])
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check

.PHONY: setup demo lint test test-fast docs reference screenshots clean help

setup: .venv/installed  ## Install everything that development needs into ./.venv (PYTHON= names another Python)

.venv/installed: pyproject.toml constraints.txt
	@$(or $(PYTHON),false) -c '$(IS_SUPPORTED)' $(VERSIONS) 2>/dev/null || \
	  { echo "PYTHON: got '$(PYTHON)'; expected one of $(CANDIDATES) on PATH, or make PYTHON=/path/to/one" >&2; exit 1; }
	$(BIN)/python -c '' 2>/dev/null || $(PYTHON) -m venv --clear .venv
	$(PIP) -c constraints.txt torch
	$(PIP) -c constraints.txt -e '.[dev]'
	$(PIP) --no-deps open_clip_torch==3.3.0  # CLIP's vocabulary, for tests
	touch .venv/installed

demo: setup  ## Learn a subject with the embedded model; pictures in demo-output/
	$(BIN)/zoodip demo --out demo-output

lint: setup  ## Check style, types, the direction of imports and the language of all prose
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m tools.check_language

test: setup  ## Run all tests
	$(BIN)/python -m pytest -n 3 --dist worksteal  # many tests wait for processes

test-fast: setup  ## Run the unit tests, without the slow ones
	$(BIN)/python -m pytest -n 2 --dist worksteal -p no:schemathesis -m 'not slow and not gpu' tests/unit

docs: setup  ## Build the site of docs/ into site/, without network; a broken link fails
	$(BIN)/python -m tools.site

reference: setup  ## Generate docs/reference/{settings,errors,cli}.md from the code
	$(BIN)/python -m tools.reference

screenshots: setup  ## Take the pictures of the browser page in docs/images/; takes some minutes, needs Chromium
	$(BIN)/python -m tools.screenshots

clean:  ## Remove what make wrote
	rm -rf .venv demo-output site site.toml

help:  ## List the targets
	@sed -n 's/^\([a-z-]*\):.*  ## /\1\t/p' $(MAKEFILE_LIST) | expand -t 12
