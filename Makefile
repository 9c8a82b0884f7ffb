# `make demo` and `make test` set everything up on a machine with Python 3.11+ and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.tesela-installed
CHROMIUM := /usr/bin/chromium

# Threads that wait sleep, also in processes that load OpenMP before Tesela can say so.
export OMP_WAIT_POLICY ?= PASSIVE

.DEFAULT_GOAL := help
.PHONY: help demo test check format mutants bench docs constraints system postgis faults qgis qgis-zip

help: ## Show the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Tesela needs Python 3.11 or newer, and $(PYTHON) is older. Name another: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || \
	  { echo "No virtual environment could be made. On Debian and Ubuntu install the package python3-venv."; exit 1; }
	@test -x $(BIN)/uv || $(BIN)/python -m pip install --quiet --constraint constraints.txt uv
	$(BIN)/uv pip install --python $(BIN)/python --constraint constraints.txt --compile-bytecode --editable '.[dev]'
	@touch $@

demo: $(STAMP) ## The whole chain on the virtual region: map, scores and report
	$(BIN)/tesela demo

test: check ## Linters, types, import contracts, doctests, a short demo, then pytest, the documents last
	$(BIN)/python -m pytest --quiet --doctest-modules src
	out=$$(mktemp -d) && $(BIN)/tesela demo --out "$$out/demo" && rm -rf "$$out"
	$(BIN)/python -m pytest -n 2 -m "not documents"
	$(BIN)/python -m pytest -n 2 -m documents

check: $(STAMP) ## Linters, types and import contracts only
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(STAMP) ## Format the code and mend what ruff can mend
	$(BIN)/ruff check --fix --exit-zero
	$(BIN)/ruff format

mutants: $(STAMP) ## Plant mistakes in the core algorithms; every one must make a test fail
	$(BIN)/python tests/mutants.py

faults: $(STAMP) ## The long pass of the loops: 1,000 kills, 300 full disks, 100,000 damaged files; hours
	PYTHONPATH=tests $(BIN)/python tests/faults/kills.py --kills $(or $(KILLS),1000) --seed $(or $(SEED),0)
	PYTHONPATH=tests $(BIN)/python tests/faults/full_disk.py --runs $(or $(RUNS),300) --seed $(or $(SEED),0)
	PYTHONPATH=tests $(BIN)/python tests/faults/damage.py --count $(or $(COUNT),3850) --seed $(or $(SEED),0)

bench: $(STAMP) ## Every script of benchmarks/, one JSON document each
	$(BIN)/uv pip install --python $(BIN)/python --constraint constraints.txt --editable '.[bench]'
	@set -e; for script in $(wildcard benchmarks/*.py); do echo "# $$script"; $(BIN)/python $$script; done

docs: $(STAMP) ## docs/cli.md from the help texts, then the site into site/, without a warning
	$(BIN)/typer tesela.cli.app utils docs --name tesela --output docs/cli.md
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict
	@echo "Open site/index.html. With search: $(BIN)/python -m http.server --directory site"

constraints: $(STAMP) ## Pin the dependencies of pyproject.toml again, all extras
	$(BIN)/uv pip compile --python $(BIN)/python --quiet --all-extras --no-annotate --no-header --upgrade \
	  --output-file constraints.txt pyproject.toml

system: ## Debian as root: install Chromium, with which the report page is tested
	@if [ -x $(CHROMIUM) ]; then echo "Chromium is there."; \
	elif [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	  apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium >/dev/null \
	    || echo "Chromium could not be installed: the browser tests will be skipped."; \
	else echo "Chromium is missing and this is not root on Debian: the browser tests will be skipped."; fi

postgis: ## Debian as root: install PostgreSQL with PostGIS, with which its tests run
	@if ls /usr/share/postgresql/*/extension/postgis.control >/dev/null 2>&1; then echo "PostGIS is there."; \
	elif [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	  apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
	    postgresql $$(apt-cache --names-only search '^postgresql-[0-9]+-postgis-3$$' | sort | tail -n 1 | cut -d' ' -f1) \
	    >/dev/null || echo "PostGIS could not be installed: its tests will be skipped."; \
	else echo "PostGIS is missing and this is not root on Debian: its tests will be skipped."; fi

qgis: $(STAMP) ## Test the QGIS plugin in a real QGIS, offscreen; Debian as root: install it first (1 GB)
	@if [ -x /usr/bin/qgis_process ] && /usr/bin/python3 -c 'import qgis.core, pytest' 2>/dev/null; then echo "QGIS is there."; \
	elif [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	  apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
	    qgis python3-qgis qgis-providers python3-pytest >/dev/null || { echo "QGIS could not be installed: the plugin was not tested."; exit 1; }; \
	else echo "QGIS is missing and this is not root on Debian: the plugin was not tested. Install qgis, python3-qgis and python3-pytest."; exit 1; fi
	QT_QPA_PLATFORM=offscreen PYTHONDONTWRITEBYTECODE=1 TESELA_ENVIRONMENT=$(abspath $(VENV)) \
	  /usr/bin/python3 -m pytest -c integrations/qgis/tests/pytest.ini integrations/qgis/tests

qgis-zip: ## Pack the QGIS plugin: dist/tesela_qgis.zip
	$(PYTHON) integrations/qgis/make_zip.py
