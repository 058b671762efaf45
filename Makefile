# What people and CI run. `make help` lists the targets.
#
# Everything happens in .venv. `make run` installs what running needs (requirements.txt: versions and hashes), and
# `make test` and `make lint` the rest (requirements-dev.txt). A stamp for each says that it is up to date, so that the
# second call costs nothing.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help run test faults lint bench bench-deps profile lock example clean

VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
DEV := $(VENV)/.ready-dev
# Only errors are shown: no notices of newer versions, no warnings about the machine's package sources.
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PIP_ROOT_USER_ACTION := ignore
PIP_INSTALL := $(BIN)/python -m pip install -qq
SANDBOX := sandbox
# Fewer workers leave the machine room; `make test PYTEST='-k users'` narrows.
JOBS ?= 2
PYTEST ?=
MINUTES ?= 90
# `make faults JOBS=3 ROWS="kill=1000 power-ext4"` narrows; the others have rounds of their own.
ROWS ?=
# `make bench BENCH="relayed-kept --runs 3"` narrows; `python -m bench --help` says what there is.
BENCH ?=
PROFILE ?=
# Seconds for each target; `make fuzz TARGETS="address header"` narrows.
FUZZ_SECONDS ?= 60
TARGETS ?=
# Debian and Ubuntu: load generator, sink and what the relay is compared with.
BENCH_PACKAGES := postfix opendkim sasl2-bin libsasl2-modules libsasl2-modules-db

# The first Python that is new enough. A version manager's shim may exist and not run, so each is tried.
FIND_PYTHON = for python in "$${PYTHON:-}" python3 python3.14 python3.13 python3.12 python3.11; do \
	  if [ -n "$$python" ] && "$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
	    echo "$$python"; exit 0; fi; \
	done; \
	echo "Python 3.11 or newer is needed; install it, or name it: make PYTHON=/path/to/python3" >&2; exit 1

help: ## List the targets.
	@sed -n 's/^\([a-z-]*\):.*## /  make \1\t/p' $(MAKEFILE_LIST) | expand -t 18

run: $(READY) $(SANDBOX)/relay.toml ## Serve a sandbox on 127.0.0.1:2525, :2587 and :2465; no mail leaves the machine.
	@$(BIN)/relay -c $(SANDBOX)/relay.toml serve

test: $(DEV) ## Run all tests.
	$(BIN)/python -m pytest -q -n $(JOBS) --dist loadgroup $(PYTEST)

faults: $(DEV) ## Inject thousands of faults (an hour; MINUTES=… at most). Power cuts and full disks need root.
	$(BIN)/python -m tests.faults $(ROWS) --minutes $(MINUTES) --jobs $(JOBS)

lint: $(DEV) ## Check style, format and types.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

example: $(DEV) ## Renew relay.toml.example and docs/reference/settings.md from the schema.
	$(BIN)/python -m relay_config.example > relay.toml.example
	$(BIN)/python -m relay_config.reference > docs/reference/settings.md

bench: $(DEV) ## Measure the relay beside Postfix: all rows of docs/performance.md (half an hour; as root).
	$(BIN)/python -m bench $(BENCH)

bench-deps: ## Install what the benchmarks need besides: Postfix, OpenDKIM, SASL, py-spy (as root, Debian).
	DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends $(BENCH_PACKAGES)
	python=$$($(FIND_PYTHON)); "$$python" -m venv build/profile-venv
	build/profile-venv/bin/python -m pip install --quiet py-spy

profile: $(DEV) ## Show where the relay's CPU goes under load (PROFILE="--load relayed-each --native").
	$(BIN)/python -m bench.profiling $(PROFILE)

fuzz: $(DEV) ## Feed parsers and stores hostile octets, guided by coverage where atheris can be had (FUZZ_SECONDS=60 each).
	[ -x build/fuzz-venv/bin/python ] || { $(BIN)/python -m venv build/fuzz-venv && { \
	  build/fuzz-venv/bin/python -m pip install --quiet atheris || echo "without atheris: by chance alone" >&2; }; }
	$(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))' \
	  > "$$(build/fuzz-venv/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/relay-tests.pth"
	PYTHONPATH=.:queue:config build/fuzz-venv/bin/python -m tests.fuzz --seconds $(FUZZ_SECONDS) $(TARGETS)

lock: ## Renew requirements.txt and requirements-dev.txt from pyproject.toml.
	python=$$($(FIND_PYTHON)); folder=$$(mktemp -d); trap 'rm -rf "$$folder"' EXIT; \
	"$$python" -m venv "$$folder"; \
	"$$folder/bin/python" -m pip install -qq pip-tools; \
	compile() { "$$folder/bin/pip-compile" --quiet --generate-hashes --no-emit-index-url --no-emit-find-links \
	  --no-emit-trusted-host --allow-unsafe --strip-extras --no-annotate --no-header --build-deps-for editable \
	  "$$@" pyproject.toml; }; \
	compile --output-file requirements.txt; \
	compile --extra dev --constraint requirements.txt --output-file requirements-dev.txt

clean: ## Remove the environment and everything built; the sandbox stays.
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage*
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(SANDBOX)/relay.toml: | $(READY)
	@echo "Making $(SANDBOX)"
	@$(BIN)/relay init --sandbox $(SANDBOX) >/dev/null  # serving it shows the same text

# `python -m pip` rather than `pip`: a script's first line holds the path of the environment, which may have moved.
$(READY): requirements.txt pyproject.toml
	@python=$$($(FIND_PYTHON)); \
	[ -x $(BIN)/python ] || { echo "Creating $(VENV)"; "$$python" -m venv $(VENV); } || { \
	  rm -rf $(VENV); echo "The environment could not be made; on Debian and Ubuntu: apt install python3-venv" >&2; exit 1; }
	@echo "Installing $$(grep -c '^[a-z].*==' requirements.txt) packages"
	@$(PIP_INSTALL) --require-hashes --requirement requirements.txt
	@$(PIP_INSTALL) --no-deps --no-build-isolation --editable .
	@touch $@

$(DEV): $(READY) requirements-dev.txt
	@packages=$$(comm -13 <(grep '^[a-z].*==' requirements.txt | sort) <(grep '^[a-z].*==' requirements-dev.txt | sort) | wc -l); \
	echo "Installing $$packages packages for development"
	@$(PIP_INSTALL) --require-hashes --requirement requirements-dev.txt
	@touch $@
