# make run                                  install what is needed and run code/SdA.py
# make run SCRIPT=mlp ARGS="--n-epochs 5"   the same for any script
# make test                                 install what is needed and run the tests
# make doc                                  build the book, doc/_build/html/index.html
# make venv                                 only install
# PYTHON=python3.12 make ...                with another interpreter

PYTHON ?= python3
SCRIPT ?= SdA
ARGS ?=
BIN := .venv/bin
# Of JAX, and of NumPy's products.
ONE_THREAD := NPROC=1 OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1
# The longest first, so that none is left for the end.
LONGEST := $(patsubst %,code/test_%.py,scripts book rnnrbm runs rbm)
TESTS := $(LONGEST) $(filter-out $(LONGEST),$(wildcard code/test_*.py code/hmc/test_*.py))

.PHONY: run test doc venv lint clean $(TESTS:%=run-%)

run: venv
	$(BIN)/python code/$(SCRIPT).py $(ARGS)

# Each file of tests in a process of its own, two at a time, with a core for each.
test: venv
	@test -n "$(TESTS)" || { echo 'no test was found' >&2; exit 1; }
	@$(MAKE) --no-print-directory --keep-going --jobs=2 \
		$(if $(filter output-sync,$(.FEATURES)),--output-sync=target) $(TESTS:%=run-%)

$(TESTS:%=run-%): run-%:
	@echo 'nosetests $*'
	@$(ONE_THREAD) $(BIN)/nosetests $* $(ARGS)

venv: .venv/complete

.venv/complete: requirements.txt constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo 'Python 3.11 or later is needed; name one with PYTHON=...' >&2; exit 1; }
	$(PYTHON) -m venv --clear .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check \
		-r requirements.txt -c constraints.txt
	@touch $@

doc: .venv/dev-complete
	$(BIN)/python -m sphinx -W --keep-going -q -b html -d doc/_build/doctrees doc doc/_build/html
	@echo 'The book is in doc/_build/html/index.html'

lint: .venv/dev-complete
	$(BIN)/ruff check code doc
	$(BIN)/mypy

.venv/dev-complete: .venv/complete requirements-dev.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check \
		-r requirements-dev.txt -c constraints.txt
	@touch $@

clean:
	rm -rf .venv doc/_build
