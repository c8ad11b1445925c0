# make run: the main job, end to end.  make test: everything, from nothing.  make bench: the figures.
PYTHON ?= python3
BIN := .venv/bin
LOCK := $(PYTHON) -m uv pip compile -q --generate-hashes --no-header --no-emit-index-url \
	--no-emit-find-links --universal --python-version 3.11

# The tests start the command hundreds of times, so Python keeps what it compiles, whatever the environment says.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help run test bench check published lock clean
.DEFAULT_GOAL := help

help:
	@echo "make run    the main job on simulated orders (ORDERS=path MAP=name FIRST_DAY=2026-02-01 for your own file;"
	@echo "            KAFKA=1 through a Kafka of its own)"
	@echo "make test   the whole test suite, with ruff and mypy"
	@echo "make bench  the benchmarks; writes build/bench.json"

run: $(if $(KAFKA),.venv/kafka.stamp,.venv/run.stamp)
	@$(BIN)/danbao run $(if $(KAFKA),--kafka) $(if $(ORDERS),--orders "$(ORDERS)") $(if $(MAP),--map "$(MAP)") \
		$(if $(FIRST_DAY),--first-day "$(FIRST_DAY)")

# Five at a time on two cores: much of a test's time is waiting for servers. A file's tests stay together, and
# tests/conftest.py says what comes first.
test: .venv/dev.stamp check
	$(BIN)/python -m pytest -n 5 --dist loadfile --no-loadscope-reorder

check: .venv/dev.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: .venv/bench.stamp
	$(BIN)/python -m tests.bench $(ARGS)

published: .venv/dev.stamp
	$(BIN)/python -m schemas.publish

# All is installed from the lock files alone, every archive held to its hash.
.venv/run.stamp: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
		{ echo "Python's venv module is missing: install python3-venv (Debian) and run make again." >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@echo "Installing danbao and its libraries into .venv, once; about half a minute …"
	@$(BIN)/python -m pip install -q --disable-pip-version-check --require-hashes -r requirements.lock
	@$(BIN)/python -m pip install -q --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

# A Java, for machines that have none.
.venv/kafka.stamp: .venv/run.stamp requirements-kafka.lock
	@$(BIN)/python -m pip install -q --disable-pip-version-check --require-hashes -r requirements-kafka.lock
	@touch $@

.venv/dev.stamp: .venv/run.stamp requirements-dev.lock
	$(BIN)/python -m pip install -q --disable-pip-version-check --require-hashes -r requirements-dev.lock
	@touch $@

.venv/bench.stamp: .venv/dev.stamp requirements-bench.lock
	$(BIN)/python -m pip install -q --disable-pip-version-check --require-hashes -r requirements-bench.lock
	@touch $@

# Needs uv (pip install uv); versions already locked stay as they are unless UPGRADE=1.
lock:
	$(LOCK) $(if $(UPGRADE),--upgrade) --extra build pyproject.toml -o requirements.lock
	$(LOCK) $(if $(UPGRADE),--upgrade) --extra build --extra broker -c requirements.lock pyproject.toml -o requirements-kafka.lock
	$(LOCK) $(if $(UPGRADE),--upgrade) --extra build --extra broker --extra traces --extra dev -c requirements.lock pyproject.toml -o requirements-dev.lock
	$(LOCK) $(if $(UPGRADE),--upgrade) --extra build --extra bench -c requirements.lock pyproject.toml -o requirements-bench.lock

clean:
	rm -rf .venv build *.egg-info .mypy_cache .ruff_cache .pytest_cache
