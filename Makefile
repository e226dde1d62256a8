# Two commands matter: `make demo` shows the blog on a cluster, `make test` proves the rest. `make help` lists all.

VENV   = .venv
BIN    = $(VENV)/bin
STAMPS = $(VENV)/.stamps
# Empty: the first Python >= 3.10 that .ci/venv.sh finds.
PYTHON ?=
# SERVERS=skip leaves the machine's packages alone: tests of servers that are missing are then skipped.
SERVERS ?=
# Arguments for pytest, for example: make quick T="-k token -x"
T ?=
# Arguments for the benchmarks, for example: make bench B="--only pooling"
B ?=
QUICK ?=
PORT ?= 5000
# How many tests run at once in `make test`; those of one file never do. Each worker has clusters of its own.
JOBS ?= 2

# Tests that start no server and no container, and need no package index.
WITHOUT_SERVERS = RDS_ROUTER_SKIP=mariadb,mysql,postgresql
UNIT = -q -m "not docker and not packaging" --ignore=tests/lab --ignore=tests/cluster --ignore=tests/fuzz

.PHONY: help demo test quick check style types imports docs unit servers peers bench release-check env clean
.DEFAULT_GOAL := help

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' Makefile | sed 's/:.*## /\t/' | expand -t 15

demo: $(STAMPS)/demo ## the blog on the best cluster this machine can start: http://127.0.0.1:5000 (PORT=)
	@$(BIN)/python examples/flask_blog/demo.py --port $(PORT)

test: env servers check docs ## everything: style, types, imports, docs, all tests on real servers
	@$(BIN)/python -m pytest -n $(JOBS) --dist loadfile $(T)

quick: check unit ## the loop while writing: everything that needs no server

check: style types imports

style: env ## ruff: rules and format
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

types: env ## mypy --strict
	@$(BIN)/mypy --strict

imports: env ## import-linter: imports point down only
	@$(BIN)/lint-imports

unit: env
	@$(WITHOUT_SERVERS) $(BIN)/python -m pytest $(UNIT) $(T)

docs: env ## the documentation, warnings are errors: build/docs/index.html
	@$(BIN)/mkdocs build --quiet --strict

bench: env ## all benchmarks, and their report: benchmarks/results (QUICK=1: in two minutes; RUNTIME=docker)
	@$(BIN)/python -m benchmarks.run $(if $(QUICK),--quick) $(B)

peers: env ## what rds_router is measured beside, in an environment of its own (.venv-peers): then make bench
	@PYTHON="$(PYTHON)" sh .ci/venv.sh .venv-peers
	@sh .ci/pip-install.sh .venv-peers '.[bench]'
	@.venv-peers/bin/python -m pip install --quiet --disable-pip-version-check -r benchmarks/peers/requirements.txt

profile: env ## a flame graph of the blog under load, by py-spy: build/profile/blog.svg
	@$(BIN)/python -m benchmarks.flame

servers: env ## install the database servers that tests need (as root on Debian; SERVERS=skip: do not)
	@SERVERS="$(SERVERS)" .ci/servers.sh

release-check: env ## the built wheel, installed away from this checkout, passes the tests
	@.ci/release-check.sh

env: $(STAMPS)/dev

clean: ## what was built, and the environments
	rm -rf $(VENV) .tox build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis .benchmarks

$(STAMPS)/venv:
	@PYTHON="$(PYTHON)" sh .ci/venv.sh $(VENV)
	@mkdir -p $(STAMPS) && touch $@

# dev has all that the demo needs: after `make test`, `make demo` installs nothing.
$(STAMPS)/demo: pyproject.toml | $(STAMPS)/venv
	@[ $(STAMPS)/dev -nt pyproject.toml ] || sh .ci/pip-install.sh $(VENV) '.[flask,mysql,postgresql,lab]'
	@touch $@

$(STAMPS)/dev: pyproject.toml | $(STAMPS)/venv
	@sh .ci/pip-install.sh $(VENV) '.[dev]'
	@touch $@
