# Everything a newcomer needs: `make serve` runs the registry, `make test` runs the tests. No root, no configuration.
PYTHON ?= python3
ADDRESS ?= 127.0.0.1:5000
DATA ?= ./data
BIN := .venv/bin

.PHONY: help serve test test-swarm stress bench check wheels image clean

help: ## show the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 16

serve: .venv/.installed ## serve on 127.0.0.1:5000 with data in ./data (ADDRESS=, DATA= to change)
	@mkdir -p "$(DATA)"
	@exec env REGISTRY_CONFIGURATION_PATH= REGISTRY_HTTP_ADDR=$(ADDRESS) REGISTRY_STORAGE_FILESYSTEM_ROOTDIRECTORY="$(DATA)" $(BIN)/registry serve

test: .venv/.installed ## run the tests, two files at once (PYTEST="-n 0 -x -k name")
	$(BIN)/python -m pytest -n 2 --dist loadfile $(PYTEST)

test-swarm: RIG ?= ../shared/rig
test-swarm: .venv/.installed ## run the guide and its hard days on a swarm of two nodes; as root, about 14 minutes (RIG=)
	@test "$$(id -u)" = 0 || { echo "test-swarm: needs root" >&2; exit 1; }
	@test -x "$(RIG)/rig" || { echo "test-swarm: NOT RUN: there is no rig of two nodes at $(RIG) (RIG= says where it is)" >&2; exit 1; }
	SWARM_TEST=1 REQUIRE_CLIENTS=1 RIG="$(abspath $(RIG))" $(BIN)/python -m pytest --exitfirst --capture=no --verbose tests/swarm $(PYTEST)

stress: .venv/.installed ## push beside continuous garbage collection for ten minutes, and look that nothing is lost
	STRESS_SECONDS=600 $(BIN)/python -m pytest -s -m crash tests/crash/test_collection.py -k beside_continuous $(PYTEST)

bench: .venv/.installed ## measure against docker-registry and other peers, about half an hour (BENCH="--quick", BENCH=--help)
	@$(BIN)/python tests/bench $(BENCH)

check: .venv/.installed ## style, types and floors
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

.venv/.installed: pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@echo "Installing into .venv (first time: about half a minute) ..."
	@$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"
	@$(BIN)/python -m pip install --quiet --editable . --group dev
	@touch $@

wheels: ## put all that the image needs into ./wheels, to build it without a network
	rm -rf wheels
	$(PYTHON) -m pip wheel --quiet --wheel-dir wheels .

image: ## build the image swarm-registry:latest (BASE= for another base image)
	docker build $(if $(BASE),--build-arg BASE=$(BASE)) --tag swarm-registry:latest .

clean: ## remove the virtual environment and caches; ./data stays
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis dist
