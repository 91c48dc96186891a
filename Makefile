# make run                                  install what is needed and run code/SdA.py
# make run SCRIPT=mlp ARGS="--n-epochs 5"   the same for any script, also SCRIPT=/path/to/my.py
# make reproduce ARGS=--quick                the first epochs of every script, beside ours
# make test                                 install what is needed and run the tests
# make doc                                  build the book, doc/_build/html/index.html
# make notebooks                            of every chapter, run, in doc/_build/notebooks
# make venv                                 only install
# make mutants                              hours: which errors in the code no test notices
# PYTHON=python3.12 make ...                with another interpreter

PYTHON ?= python3
SCRIPT ?= SdA
ARGS ?=
BIN := .venv/bin
# Of JAX, and of NumPy's products. What is tested runs for moments: less is made of it by LLVM.
FOR_TESTS := NPROC=1 OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 \
	XLA_FLAGS=--xla_backend_optimization_level=1
# The longest files first, so that none is left for the end; the others share processes.
LONGEST := $(patsubst %,code/test_%.py,scripts book live search rnnrbm runs rbm reproduce)
SHORTER := $(filter-out $(LONGEST),$(wildcard code/test_*.py code/hmc/test_*.py))
PARTS := 1 2 3 4 5 6
part-1 := $(wordlist 1,5,$(SHORTER))
part-2 := $(wordlist 6,10,$(SHORTER))
part-3 := $(wordlist 11,15,$(SHORTER))
part-4 := $(wordlist 16,20,$(SHORTER))
part-5 := $(wordlist 21,25,$(SHORTER))
part-6 := $(wordlist 26,99,$(SHORTER))

.PHONY: run reproduce test mutants doc notebooks venv lint clean $(LONGEST) $(PARTS:%=part-%)

run: venv
	$(BIN)/python $(if $(filter %.py,$(SCRIPT)),$(SCRIPT),code/$(SCRIPT).py) $(ARGS)

reproduce: venv
	$(BIN)/python code/reproduce.py $(ARGS)

# Two processes at a time, with a core for each.
test: venv
	@$(MAKE) --no-print-directory --keep-going --jobs=2 \
		$(if $(filter output-sync,$(.FEATURES)),--output-sync=target) \
		$(LONGEST) $(PARTS:%=part-%)

$(LONGEST) $(PARTS:%=part-%):
	@echo 'nosetests $(or $($@),$@)'
	@$(FOR_TESTS) $(BIN)/nosetests $(or $($@),$@) $(ARGS)

mutants: .venv/dev-complete
	$(BIN)/python -m pip install --quiet --disable-pip-version-check 'cosmic-ray>=8.4,<9'
	$(FOR_TESTS) $(BIN)/python .ci/mutants.py $(ARGS)

venv: .venv/complete

.venv/complete: requirements.txt constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo 'Python 3.11 or later is needed; name one with PYTHON=...' >&2; exit 1; }
	$(PYTHON) -m venv --clear .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check \
		-r requirements.txt -c constraints.txt
	@# The chapters can be imported by this Python from anywhere.
	@printf '%s\n' '$(CURDIR)/code' '$(CURDIR)/code/hmc' > \
		"$$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/tutorials.pth"
	@touch $@

doc: .venv/dev-complete
	$(BIN)/python -m sphinx -W --keep-going -q -b html -d doc/_build/doctrees doc doc/_build/html
	@echo 'The book is in doc/_build/html/index.html'

notebooks: .venv/dev-complete
	$(BIN)/python doc/notebooks.py doc/_build/notebooks $(ARGS)

lint: .venv/dev-complete
	$(BIN)/ruff check code doc
	$(BIN)/mypy

.venv/dev-complete: .venv/complete requirements-dev.txt requirements-search.txt requirements-notebooks.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check \
		-r requirements-dev.txt -c constraints.txt
	@touch $@

clean:
	rm -rf .venv doc/_build doc/generated
