# All that a newcomer needs; wants Linux, Python 3.11 or newer with pip, and the package registries.
# ARGS goes on to the command: make demo ARGS="--photos ~/Pictures --once", make test ARGS=tests/unit, make lock ARGS=--upgrade,
# make benchmark ARGS="--set dirty --rounds 1"
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
PEERS := .venv-peers
PEERS_READY := $(PEERS)/.ready
DBT := .venv-dbt
DBT_READY := $(DBT)/.ready
# The outer pip works on the environment: Debian's Python can make one only without a pip of its own.
PIP = $(PYTHON) -m pip --python $(1)/bin/python --disable-pip-version-check

.DEFAULT_GOAL := help
.PHONY: help setup demo up test chaos drills mutants check benchmark peers dbt lock audit clean

help:  ## list these targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-9s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(READY)  ## make the environment .venv, from the locked versions

demo: $(READY)  ## tag the bundled photographs on real servers, and show whose are what
	$(BIN)/pictograph demo $(ARGS)

up: $(READY)  ## run servers, workers and API on this machine until Ctrl-C
	$(BIN)/pictograph up $(ARGS)

# Two files at a time: most tests wait for servers, leases and processes. In the order of tests/conftest.py: what takes
# long comes first, so that the last files are short.
test: $(READY) $(DBT_READY)  ## run all tests
	$(BIN)/pytest -q --numprocesses 2 --dist loadfile --no-loadscope-reorder $(ARGS)

chaos: $(READY)  ## break everything at random for 25 minutes, and see that nothing is lost or counted twice
	$(BIN)/python -m tests.chaos $(ARGS)

check: $(READY)  ## lint, formatting, types and import rules
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy --strict
	$(BIN)/mypy --strict infra/healthy.py
	$(BIN)/lint-imports

drills: $(READY)  ## break one thing after the other, also what takes minutes
	CHAOS_EXAMPLES=400 $(BIN)/pytest -q -m "chaos or not chaos" tests/chaos/test_drills.py \
		tests/chaos/test_ledger_machine.py $(ARGS)

mutants: $(READY)  ## sabotage nine guarantees, one at a time; the tests must notice each
	$(BIN)/python -m tests.chaos.mutants $(ARGS)

benchmark: $(READY) $(PEERS_READY)  ## race Pictograph against its peers on this machine
	$(BIN)/python -m benchmarks.engine $(ARGS)

peers: $(PEERS_READY)  ## make the environment .venv-peers, with the tools that benchmarks compare with

dbt: $(DBT_READY)  ## make the environment .venv-dbt, in which the tests run the dbt package

# Four lists, one resolution: what runs in the containers is what the tests ran with. The peers of the benchmarks, who
# bound libraries from above, have another environment with a resolution of its own; so has dbt.
LOCK := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --fork-strategy fewest --generate-hashes \
	--no-annotate --no-emit-index-url --custom-compile-command 'make lock'
AS_TESTED := --constraints requirements/dev.txt

lock: $(READY)  ## write requirements/*.txt from pyproject.toml
	$(LOCK) pyproject.toml --all-extras --group dev --output-file requirements/dev.txt $(ARGS)
	$(LOCK) pyproject.toml $(AS_TESTED) --output-file requirements/api.txt
	$(LOCK) pyproject.toml --extra worker $(AS_TESTED) --output-file requirements/worker.txt
	$(LOCK) --group build $(AS_TESTED) --output-file requirements/build.txt
	$(LOCK) pyproject.toml --extra worker --extra embedded --extra samples --group peers \
		--output-file requirements/peers.txt
	$(LOCK) --no-strip-extras --group dbt --output-file requirements/dbt.txt

# --strict: a package of which nothing is known, because the advisories are out of reach, is not one that is well.
AUDIT := $(BIN)/uvx pip-audit@2.10.1 --strict --require-hashes --disable-pip

audit: $(READY)  ## ask whether anything is known against the locked packages; needs the network
	@ignored=$$(awk '!/^#/ && NF {print "--ignore-vuln " $$1}' requirements/ignored-advisories); \
	for list in api worker build dev; do $(AUDIT) $$ignored --requirement requirements/$$list.txt || exit 1; done

clean:  ## remove all that was made here; the data folder stays
	rm -rf $(VENV) $(PEERS) $(DBT) build dist out .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Made once, and again whenever the dependencies change.
$(READY): pyproject.toml requirements/dev.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo >&2 "Pictograph needs Python 3.11 or \
	newer and found `$(PYTHON) --version`; name another, as in: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	$(PYTHON) -m venv --without-pip $(VENV)
	$(call PIP,$(VENV)) install --require-hashes --requirement requirements/dev.txt
	$(call PIP,$(VENV)) install --no-deps --no-build-isolation --editable .
	@touch $@

$(PEERS_READY): requirements/peers.txt
	$(PYTHON) -m venv --without-pip $(PEERS)
	$(call PIP,$(PEERS)) install --require-hashes --requirement requirements/peers.txt
	@touch $@

$(DBT_READY): requirements/dbt.txt
	$(PYTHON) -m venv --without-pip $(DBT)
	$(call PIP,$(DBT)) install --require-hashes --requirement requirements/dbt.txt
	@touch $@
