# One entry point. `make` alone prints what each target does.
.DEFAULT_GOAL := help
PYTHON ?= python3
BIN := .venv/bin
# Bytecode is worth half the start-up time; some machines switch it off.
unexport PYTHONDONTWRITEBYTECODE

.venv/ready: requirements.lock pyproject.toml
	@echo "setup: making .venv (about a minute, once)"
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "icplab needs Python 3.11 or later, this is " + sys.version.split()[0])'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	$(BIN)/python -m compileall -q icplab
	@touch .venv/ready

.PHONY: help setup run test test-fast lint lab sample docs lock bench-recovery bench-traits bench-quick bench-coverage bench-duplicates bench-tiers bench-speed fuzz fuzz-runs bench-features bench-segments test-cluster clean

help: ## print this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sort | awk -F ':.*## ' '{printf "  make %-16s %s\n", $$1, $$2}'

setup: .venv/ready ## make .venv with every locked dependency (no root, no Spark)

run: .venv/ready ## the quarterly run on data/sample; ends with the path of index.html
	@$(BIN)/icplab run data/sample

test: .venv/ready lint ## lint, types, notebooks and all tests (needs no root)
	$(BIN)/python -m pytest -n 2 --dist loadfile
	@rm -rf reports/nbval && ICPLAB_RUN=$(CURDIR)/reports/nbval $(BIN)/python -m pytest -q --nbval-lax --nbval-cell-timeout=300 -p no:cacheprovider notebooks

test-fast: .venv/ready ## the tests without notebooks, lint and slow ones
	$(BIN)/python -m pytest -q -n 2 --dist loadfile -m "not slow"

lint: .venv/ready ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

lab: .venv/ready ## open JupyterLab on the notebooks
	@$(BIN)/icplab lab data/sample

sample: .venv/ready ## write data/sample anew (committed; the same bytes every time)
	$(BIN)/python -m icplab.simulate

docs: .venv/ready ## write the data dictionary and the page of messages anew from their declarations
	$(BIN)/python -m icplab.core.schema > docs/data-dictionary.md
	$(BIN)/python -m icplab.core.messages > docs/messages/README.md

fuzz: .venv/ready ## N=10000 mutated workspaces, SEED=1: no traceback, no silent change; BLOCKS=1: by the reader of large files
	$(BIN)/python -m benchmarks.fuzz_intake --files $(or $(N),10000) --seed $(or $(SEED),1) $(if $(BLOCKS),--blocks)

fuzz-runs: .venv/ready ## whole runs on workspaces of unusual shape, N=10 drawn ones with SEED=1 (half a minute each)
	$(BIN)/python -m benchmarks.fuzz_workspaces --n $(or $(N),10) --seed $(or $(SEED),1)

lock: ## write both lock files anew from pyproject.toml (needs uv)
	uv pip compile pyproject.toml --extra dev --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --no-annotate -o requirements.lock
	uv pip compile pyproject.toml --extra dev --extra spark --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --no-annotate -o requirements-spark.lock

bench-recovery: .venv/ready ## planted truth: what the method finds against a Bayes oracle and a naive analyst
	$(BIN)/python -m benchmarks.performance_recovery
	$(BIN)/python -m benchmarks.recovery

bench-traits: .venv/ready ## traits T1 to T5 and their scenarios beside a naive analyst; SEEDS=20 markets each, from FIRST=10000
	$(BIN)/python -m benchmarks.traits_recovery --seeds $(or $(SEEDS),20) --first $(or $(FIRST),10000)
	$(BIN)/python -m benchmarks.speed_traits

bench-quick: .venv/ready ## the key figures' part of bench-recovery with few seeds, in minutes
	$(BIN)/python -m benchmarks.performance_recovery --quick

bench-duplicates: .venv/ready ## planted duplicate accounts: recall and precision over ten seeds and two vocabularies, seconds by size
	$(BIN)/python -m benchmarks.duplicates --sizes

bench-tiers: .venv/ready ## the scorecard against a Bayes oracle and a naive analyst (C1 to C6, E2), and the speed of scoring
	$(BIN)/python -m benchmarks.tiers_recovery --simulated 5
	$(BIN)/python -m benchmarks.speed_scoring

bench-coverage: .venv/ready ## how often the 95 % intervals of key figures hold a known truth
	$(BIN)/python -m benchmarks.coverage

bench-speed: .venv/ready ## start-up and run time against their peers in the same run
	$(BIN)/python -m benchmarks.speed
	$(BIN)/python -m benchmarks.account_table
	$(BIN)/python -m benchmarks.ingest
	$(BIN)/python -m benchmarks.speed_explorers

bench-features: .venv/ready ## the account table beside pandas and a bare scan; SIZE=L takes 200 million events and an hour
	$(BIN)/python -m benchmarks.account_table --size $(or $(SIZE),M)

bench-segments: .venv/ready ## segments against planted truth: two generators, the oracle and k-means beside; SEEDS=20 takes hours
	$(BIN)/python -m benchmarks.segments --seeds $(or $(SEEDS),5)
	$(BIN)/python -m benchmarks.speed_segments

test-cluster: .venv/ready ## the Spark tests on a master with two workers on this machine (needs the extra and Java 17)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-spark.lock
	$(BIN)/python -m tests.cluster

clean: ## remove .venv and generated reports
	rm -rf .venv reports/.staging reports/lab reports/nbval
