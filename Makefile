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

.PHONY: run test doc venv lint clean

run: venv
	$(BIN)/python code/$(SCRIPT).py $(ARGS)

test: venv
	$(BIN)/python code/test.py --parts=2 $(ARGS)

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

.venv/dev-complete: .venv/complete requirements-dev.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check \
		-r requirements-dev.txt -c constraints.txt
	@touch $@

clean:
	rm -rf .venv doc/_build
