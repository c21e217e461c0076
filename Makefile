# One word each; `make help` lists them. Everything runs in .venv, which is made when it is needed.
# PYTHON=/path/to/python3 chooses the interpreter that .venv is built on.

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help venv compiled demo test kills interop boot-test check-units fuzz hostile bench storm simulate siege lint format types contracts check coverage ci document screenshots man lock minimal build bundle deb check-packages clean distclean

BIN := .venv/bin
RUN := .venv/.run-installed
DEV := .venv/.dev-installed
EXPLAINED := .venv/.tests-explained
TESTS := $(shell find tests -name '*.py')
SOURCES := p2pboot tests scripts/document.py $(wildcard benchmarks siege)
ORDER := $(if $(SEED),--randomly-seed=$(SEED))

help: ## show this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | while IFS="$$(printf '\t')" read -r name what; do \
		printf '  make %-14s %s\n' "$$name" "$$what"; done

# The tools for development include what is needed to run.
$(RUN): requirements/build.txt requirements/run.txt pyproject.toml scripts/bootstrap
	@scripts/bootstrap run
	@touch $@

$(DEV): requirements/build.txt requirements/dev.txt pyproject.toml scripts/bootstrap
	@scripts/bootstrap dev
	@touch $(RUN) $@

venv: $(DEV) ## make .venv with everything for development

# Where Python may write no bytecode, each process would compile everything again.
compiled: $(RUN)
	@$(BIN)/python -m compileall -q p2pboot >/dev/null 2>&1 || true

demo: compiled ## publish, mirror and fetch in separate processes on this machine
	@$(BIN)/python -m p2pboot demo

# pytest compiles tests with their assertions explained: each of four workers would, and each time where Python may write
# no bytecode. What two processes wrote down beforehand, about half each, the workers only read.
$(EXPLAINED): $(DEV) $(TESTS)
	@printf '%s\n' tests/*/ | PYTHONDONTWRITEBYTECODE= xargs -P 2 -n 13 \
		$(BIN)/python -m pytest --collect-only -q >/dev/null 2>&1 || true
	@touch $@

# Most tests wait for processes and sockets more than they compute, so four at a time fit on two cores.
test: $(DEV) compiled $(EXPLAINED) ## run the tests in random order (SEED=n for the order of an earlier run)
	@$(BIN)/python -m pytest -n 4 --dist worksteal $(ORDER) -m "not netboot and not interop and not units"

kills: $(DEV) compiled ## end a fetch with SIGKILL 100 times and resume it each time
	@P2PBOOT_KILLS=$${P2PBOOT_KILLS:-100} $(BIN)/python -m pytest --timeout=1800 tests/integration/test_kills.py

interop: $(DEV) compiled ## speak with peers in go and js (needs go, node and npm; for their networks root)
	@scripts/interop-peers
	@$(BIN)/python -m pytest -m interop tests/interop

boot-test: $(DEV) compiled ## boot virtual machines over HTTP from a mirror (needs QEMU and iPXE)
	@$(BIN)/python -m pytest -m netboot tests/integration/test_netboot.py

check-units: $(DEV) compiled ## run the systemd units, sandboxed, under a systemd of the tests' own (needs root and Debian's systemd)
	@$(BIN)/python -m pytest -n 2 -m units tests/systemd

fuzz: $(DEV) ## throw made-up bytes at the connection stack (INPUTS=n, SEED=n to repeat one)
	@$(BIN)/python -m tests.wire.fuzz --inputs $(or $(INPUTS),1000000) $(if $(SEED),--seed $(SEED))

hostile: $(DEV) ## have a million hostile variants of signed documents refused (VARIANTS=n)
	@nice $(BIN)/python -m tests.core.mutations $(or $(VARIANTS),1000000)

bench: $(DEV) compiled ## measure throughput and latencies
	@$(BIN)/python -m benchmarks

storm: $(DEV) compiled ## many clients that start together, in network namespaces (root), measured and drawn (ROWS='n8 racks')
	@$(BIN)/python -m benchmarks.storm $(ROWS) --json build/storm/storm.json --svg build/storm

simulate: $(DEV) ## run the swarm's schedulers on a virtual clock, up to 1,000 clients, and draw it
	@$(BIN)/python -m benchmarks.simulator --large --plots build/simulator

siege: $(DEV) compiled ## attack a node in all ways for ten minutes (SECONDS=n) and show what each cost it
	@$(BIN)/python -m siege --seconds $(or $(SECONDS),600)

lint: $(DEV) ## check style and formatting
	@$(BIN)/ruff check $(SOURCES)
	@$(BIN)/ruff format --check $(SOURCES)

format: $(DEV) ## format the code
	@$(BIN)/ruff check --fix $(SOURCES)
	@$(BIN)/ruff format $(SOURCES)

types: $(DEV) ## check types
	@$(BIN)/python -m mypy

contracts: $(DEV) ## check which module may import which
	@$(BIN)/lint-imports --no-logo

check: lint types contracts ## all checks that run no code

coverage: $(DEV) ## run the tests and report which branches they took
	@$(BIN)/python -m coverage run -m pytest
	@$(BIN)/python -m coverage report

ci: ## what has to hold before a change lands
	@.ci/run

screenshots: $(DEV) compiled ## take the pictures of the status page in docs/images/ anew (needs Chromium)
	@$(BIN)/python -m scripts.screenshots

document: $(RUN) ## write what the settings' declarations say into docs/ anew
	@$(BIN)/python -m scripts.document

man: $(RUN) ## write the manual pages into build/man, from the commands' own --help
	@rm -rf build/man
	@$(BIN)/python -m scripts.packages.man build/man

lock: $(DEV) ## write requirements/*.txt anew (LOCK='--upgrade' for newer versions)
	@scripts/lock $(LOCK)

minimal: ## run `make test` and `make demo` in a minimal Debian, as user and as root (needs root, debootstrap)
	@scripts/check-minimal

build: $(DEV) ## make the wheel and the source archive in dist/
	@$(BIN)/python -m hatchling build

bundle: $(RUN) ## make archives that install without a package index, for x86_64 and arm64, in dist/
	@$(BIN)/python -m scripts.packages.bundle dist

deb: $(RUN) ## make Debian packages of the same wheels, for amd64 and arm64, in dist/
	@$(BIN)/python -m scripts.packages.deb dist

check-packages: $(RUN) ## install, upgrade and remove both in a minimal Debian without a network (root, debootstrap)
	@PYTHON=$(CURDIR)/$(BIN)/python scripts/check-packages

clean: ## remove what tools left behind
	@rm -rf build dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis .coverage
	@find p2pboot tests $(wildcard benchmarks siege) -name __pycache__ -prune -exec rm -rf {} +

distclean: clean ## and .venv
	@rm -rf .venv
