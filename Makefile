# Everything a developer or CI runs. Each target sets up what it needs in .venv, from the pinned
# versions in constraints.txt, and does so again only when those, pyproject.toml or the C++ sources
# of the kernels change.
#
#   make demo     train, evaluate and report a small network on the bundled digits
#   make test     all tests
#   make sanitize the kernels' tests with AddressSanitizer and UBSan (needs GCC)
#   make check    linter, format, types, the ladder, docstrings and their examples, README code
#   make bench    speed and memory beside PyTorch's, into build/bench
#   make docs     the manual, into docs/_build/html
#   make clean    remove what these targets made (not runs/ and data/)
#
# Needs make and Python 3.11 or later: make PYTHON=python3.12 names another interpreter.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
WORKERS ?= auto
BENCH ?=

# Kernels are compiled where there is a compiler. Without build isolation the pinned build tools
# are used, and only what has changed is compiled again.
KERNELS := CMakeLists.txt $(wildcard src/kernels/*)
BUILD_TOOLS := scikit-build-core nanobind cmake ninja
SANITIZED := build/sanitize

# One BLAS thread a process: the tests run in parallel processes already.
ONE_THREAD := OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 MKL_NUM_THREADS=1

.PHONY: demo test sanitize check bench docs clean setup
.DEFAULT_GOAL := demo

demo: $(VENV)/.core
	$(BIN)/chainrule train vgg_small --data digits "channels=[[32],[64]]" dropout=0.3 shift=1 \
		epochs=30 batch_size=64 lr=0.01 schedule.name=one_cycle --report

setup: $(VENV)/.dev

test: $(VENV)/.dev
	$(ONE_THREAD) $(BIN)/python -m pytest -n $(WORKERS)

# In an environment of its own, which sees the packages of .venv but not chainrule's own install.
# The page-fault test is left out: the sanitizer's allocator keeps freed memory for a while. So is the
# test of forking while another thread computes: the allocator's lock, unlike that of the C library,
# stays held in the child for ever. What a sanitizer says goes to a file, as pytest would lose it with
# the process.
sanitize: $(VENV)/.dev
	test -e $(SANITIZED)/venv || $(BIN)/python -m venv --without-pip $(SANITIZED)/venv
	purelib='import sysconfig; print(sysconfig.get_path("purelib"))' && \
		site="$$($(SANITIZED)/venv/bin/python -c "$$purelib")" && \
		$(BIN)/python -c "$$purelib" > "$$site/dependencies.pth" && \
		CHAINRULE_REQUIRE_KERNELS=1 $(INSTALL) --no-build-isolation --no-deps --upgrade \
			--target "$$site" --config-settings=build-dir=$(SANITIZED)/cmake \
			--config-settings=cmake.define.CHAINRULE_SANITIZE=ON .
	rm -f $(SANITIZED)/report.*
	LD_PRELOAD="$$($(CXX) -print-file-name=libasan.so) $$($(CXX) -print-file-name=libstdc++.so)" \
		ASAN_OPTIONS=detect_leaks=0:log_path=$(SANITIZED)/report \
		UBSAN_OPTIONS=print_stacktrace=1:log_path=$(SANITIZED)/report $(ONE_THREAD) \
		$(SANITIZED)/venv/bin/python -m pytest -q -n $(WORKERS) tests/kernels --ignore tests/kernels/test_build.py \
		--deselect tests/kernels/test_workspace.py::test_training_steps_touch_no_new_pages \
		--deselect tests/kernels/test_dispatch.py::test_a_forked_child_computes_the_same_with_threads_of_its_own || \
		{ cat $(SANITIZED)/report.*; exit 1; }

check: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(ONE_THREAD) $(BIN)/python -m pytest -q -n $(WORKERS) tests/test_architecture.py \
		tests/test_docstrings.py tests/test_imports.py tests/test_readme.py
	$(ONE_THREAD) $(BIN)/python -m pytest -q -n $(WORKERS) --doctest-modules src

# Wants a quiet machine, and is about that machine: benchmarks/README.md says how to read it.
# make bench BENCH="conv/S4 --quick" runs a part.
bench: $(VENV)/.dev
	$(BIN)/chainrule bench --json build/bench/results.json --figure build/bench/ratios.svg $(BENCH)

docs: $(VENV)/.dev
	rm -rf docs/api/_generated
	$(BIN)/sphinx-build -W --keep-going -q -b html docs docs/_build/html
	@echo "The manual is at docs/_build/html/index.html"

clean:
	rm -rf $(VENV) build dist docs/_build docs/api/_generated
	rm -rf .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find src tests docs examples benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +

# .venv/bin/python is a link to the interpreter: if that has been removed since, the link leads
# nowhere, and make comes here again.
$(BIN)/python:
	@command -v $(PYTHON) >/dev/null || { \
		echo "chainrule needs Python 3.11 or later, but there is no '$(PYTHON)'." \
			"Install it, or name another: make PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "chainrule needs Python 3.11 or later, but '$(PYTHON)' is" \
			"$$($(PYTHON) --version 2>&1). Name another: make PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
		echo "'$(PYTHON)' lacks its venv module." \
			"On Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; }
	@echo "Setting up $(VENV) ..."
	@$(PYTHON) -m venv --clear $(VENV)

$(VENV)/.core: pyproject.toml constraints.txt $(KERNELS) $(BIN)/python
	@echo "Installing chainrule and what it needs ..."
	@$(INSTALL) $(BUILD_TOOLS)
	@$(INSTALL) --no-build-isolation --editable .
	@touch $@

$(VENV)/.dev: pyproject.toml constraints.txt $(KERNELS) $(BIN)/python
	@echo "Installing chainrule and the developers' tools, PyTorch among them ..."
	@$(INSTALL) $(BUILD_TOOLS)
	@$(INSTALL) --no-build-isolation --editable '.[dev]'
	@touch $(VENV)/.core $@
