# Every target does its own set-up: Python 3.11+ with pip is all that a fresh machine needs.
# Stamps live inside the virtual environment, so removing .venv is a full clean start.

PYTHON ?= python3
OUT ?= runs/demo
VENV := .venv
BIN := $(VENV)/bin
STAMPS := $(VENV)/stamps
# What is installed is compiled when it is first imported: most of it never is.
PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile -c constraints.txt
EXTRAS := test,data,sweep
WORKERS ?= 2
MINUTES ?= 10

# What is imported is compiled once, whatever the environment says of that: many tests start processes, each of which
# would else compile a few thousand files of the libraries again, eight seconds of it.
export PYTHONDONTWRITEBYTECODE :=
export PYTHONPYCACHEPREFIX := $(CURDIR)/$(VENV)/bytecode

# Two worker processes share the cores; more threads inside each would only make them wait for one another. A file is
# run by one of them, in its own order: what its tests share is made once.
PYTEST := OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile

.PHONY: help demo test test-all test-lowest set-up torture fuzz faults benchmarks package lint docs clean

help:
	@echo "make demo      train two networks on handwritten digits, follow every charge, write a page of pictures"
	@echo "make test      lint, format, types, tests, doctests and README snippets (ten minutes on two cores)"
	@echo "make test-all  the same with the slow tests"
	@echo "make test-lowest  the tests in an environment with the lowest versions of the dependencies"
	@echo "make torture   kills, disk errors, flipped bits, second writers by the hundred (at most a quarter of an hour)"
	@echo "make fuzz      every reader fed with broken files, guided by coverage (MINUTES each, 10 by default)"
	@echo "make faults    faults planted in a copy of the source, and by which test each is caught (half an hour)"
	@echo "make benchmarks  the numbers of the documentation's page, on a machine that does nothing else (a quarter of an hour)"
	@echo "make package   sdist and wheel, installed into an empty environment and tested there"
	@echo "make docs      the documentation as HTML in docs/_build/html"
	@echo "make clean     remove the virtual environment and everything built"

# Its networks are too small to share a matrix product; one thread an operation is as fast and leaves the other core free.
demo: $(STAMPS)/package
	OMP_NUM_THREADS=1 $(BIN)/neuralmechanics demo --out $(OUT)

test: lint
	$(PYTEST)

test-all: lint
	$(PYTEST) -m "" --timeout 3600

test-lowest:
	PYTHON=$(PYTHON) WORKERS=$(WORKERS) bash .ci/lowest

# Python's packages and the browser come from different places, at the same time.
set-up:
	@$(MAKE) --no-print-directory -j 2 $(STAMPS)/test $(STAMPS)/browser

torture: $(STAMPS)/test
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.durability

fuzz: $(STAMPS)/test
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.fuzzing $(MINUTES)

faults: $(STAMPS)/test
	PYTHONPATH=. $(BIN)/python -m tests.faults

benchmarks: $(STAMPS)/test
	$(BIN)/python benchmarks/all.py

package:
	PYTHON=$(PYTHON) bash .ci/package

lint: set-up
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	# On a busy machine a worker may come too late for it: then it does without.
	$(BIN)/mypy --strict --num-workers $(WORKERS) || $(BIN)/mypy --strict

docs: $(STAMPS)/docs
	$(BIN)/python -m sphinx -W --keep-going -b html docs docs/_build/html
	@echo "docs/_build/html/index.html"

clean:
	rm -rf $(VENV) build dist docs/_build .mypy_cache .ruff_cache .pytest_cache .hypothesis

# Some systems ship venv without ensurepip; there the system's own pip puts pip into the new environment.
$(STAMPS)/venv:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "Python 3.11 or newer is needed; name one with: make PYTHON=python3.12" >&2; exit 2; }
	$(PYTHON) -m venv $(VENV) >/dev/null 2>&1 \
		|| { rm -rf $(VENV) && $(PYTHON) -m venv --without-pip $(VENV) \
			&& $(PYTHON) -m pip --quiet --python $(BIN)/python install pip; }
	@mkdir -p $(STAMPS) && touch $@

$(STAMPS)/package: pyproject.toml constraints.txt | $(STAMPS)/venv
	$(PIP_INSTALL) -e .
	@touch $@

# pip works on one core: two of them at once install what is pinned, and the one that follows has little left to do.
$(STAMPS)/pinned: constraints.txt | $(STAMPS)/venv
	@awk '/^[^#]/ { print > "$(VENV)/pinned-" NR % 2 }' constraints.txt
	@for half in 0 1; do $(PIP_INSTALL) --no-deps -r $(VENV)/pinned-$$half & done; wait
	@touch $@

$(STAMPS)/test: pyproject.toml constraints.txt | $(STAMPS)/pinned
	$(PIP_INSTALL) -e '.[$(EXTRAS)]'
	@touch $@ $(STAMPS)/package

$(STAMPS)/docs: pyproject.toml constraints.txt | $(STAMPS)/venv
	$(PIP_INSTALL) -e '.[docs]'
	@touch $@ $(STAMPS)/package

# One test opens the HTML page in a real browser; where none can be installed, that test says so and is skipped.
$(STAMPS)/browser: .ci/install-browser | $(STAMPS)/venv
	bash .ci/install-browser
	@touch $@
