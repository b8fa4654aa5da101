# make demo     install what the demo needs and run it, on SQLite
# make test     install everything, start what the tests need, run all tests
# make storm    kill relays, receivers and all brokers twenty times each: make test kills RabbitMQ and Kafka less often
# make check    format, lint, types, layers, generated files: all that is checked beside the tests
# make bench    compare with the bare driver and with other libraries
# make docs     build the documentation into build/docs
# make format   put all files into the project's format
# make clean    remove everything that make has made
#
# A Python from 3.11 on is looked for; name another one with PYTHON=/path/to/python3.12.
# More for a tool: make test ARGS="-k horizon -x", make demo ARGS="--sign-ups 50".

ARGS =
BIN = .venv/bin

export NO_MKDOCS_2_WARNING = 1

.PHONY: demo test storm check format-check lint mypy pyright layers generated bench docs format clean

demo: .venv/.ready-run
	@$(BIN)/ensue demo $(ARGS)

# Three at once, on two cores too: most of the time they wait for servers and processes.
test: .venv/.ready-dev
	@$(BIN)/python -m pytest -n 3 $(ARGS)

storm: .venv/.ready-dev
	@ENSUE_TEST_KILLS=20 $(BIN)/python -m pytest tests/test_broker_storm.py -rP $(ARGS)

check: format-check lint mypy pyright layers generated

format-check: .venv/.ready-dev
	@$(BIN)/ruff format --check --quiet . || { echo "Not in the project's format: run make format"; exit 1; }

lint: .venv/.ready-dev
	@$(BIN)/ruff check --quiet .

mypy: .venv/.ready-dev
	@$(BIN)/mypy

pyright: .venv/.ready-dev
	@$(BIN)/pyright

layers: .venv/.ready-dev
	@$(BIN)/lint-imports --no-logo

# Generated files that are committed. Each has a script that makes it, and --check.
generated: .venv/.ready-dev
	@$(BIN)/python -m examples.shop.generate --check
	@$(BIN)/python scripts/broker_matrix.py --check
	@$(BIN)/python scripts/dashboard.py --check

bench: .venv/.ready-dev
	@$(BIN)/python -m bench $(ARGS)

docs: .venv/.ready-dev
	@$(BIN)/mkdocs build --strict --site-dir build/docs && echo "build/docs/index.html"

format: .venv/.ready-dev
	@$(BIN)/ruff format --quiet .
	@$(BIN)/ruff check --quiet --fix .

clean:
	rm -rf .venv build dist .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The environment, once per set of packages and again when these files change. The recipe takes the first Python
# that is new enough, or any at all: scripts/setup.py then says what is wrong with it.
PYTHONS = $(or $(PYTHON),python3 python3.14 python3.13 python3.12 python3.11 python)

.venv/.ready-%: pyproject.toml scripts/setup.py
	@for python in $(PYTHONS); do \
	    if $$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
	        exec $$python scripts/setup.py $*; \
	    fi; \
	done; \
	for python in $(PYTHONS); do \
	    if $$python -c '' 2>/dev/null; then exec $$python scripts/setup.py $*; fi; \
	done; \
	echo "ensue needs Python 3.11 or newer, and found none: make $(MAKECMDGOALS) PYTHON=/path/to/python3.12"; exit 1
