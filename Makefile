# `make demo` and `make test` are the only set-up: each makes .venv first, once.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test quick figures versions golden browser docs clean

demo: $(VENV)/.installed
	$(BIN)/portrait demo -o out

test: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/mypy --config-file .ci/mypy.ini tests
	cd eval && ../$(BIN)/mypy --config-file ../.ci/mypy.ini *.py
	cd weights/training && ../../$(BIN)/mypy --config-file ../../.ci/mypy.ini *.py painters/*.py
	$(BIN)/pytest

# Under a minute, for while one works: what loads no real model, starts no Ray and no browser, and does not take long.
quick: $(VENV)/.installed
	$(BIN)/pytest -m "not (weights or slow or ray or browser or gpu or network)"

# After new weights: measures everything anew and writes every table; goes on where it stopped. FACES is the folder of the
# CC0 portraits (python weights/training/faces.py --out work/faces); more options as in FIGURES="--jobs 2 --minutes 60".
FACES ?= work/faces
figures: $(VENV)/.installed
	$(BIN)/python eval/refresh.py --data $(FACES) $(FIGURES)

# The lowest releases that are allowed, and each Python that is here; installs some gigabytes below work/.
versions:
	.ci/versions

docs: $(VENV)/.installed
	$(BIN)/python -m pip install --disable-pip-version-check --quiet -c constraints.txt -e ".[docs]"
	$(BIN)/mkdocs build --strict

# Writes the golden records in tests/golden again: only after a change that means to change what a record holds.
golden: $(VENV)/.installed
	$(BIN)/python -m tests.golden_records
	$(BIN)/python -m tests.test_report_files
	$(BIN)/python -m portrait.report.schema docs/drift.schema.json

# The studio and a report in a real Chromium (Debian: apt install chromium; PORTRAIT_CHROMIUM names another).
browser: $(VENV)/.installed
	$(BIN)/python -m pip install --disable-pip-version-check --quiet -c constraints.txt playwright
	$(BIN)/pytest -m browser tests/test_studio_browser.py tests/test_report_browser.py

$(VENV)/.installed: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --disable-pip-version-check --quiet -c constraints.txt -e ".[dev]"
	touch $@

clean:
	rm -rf out dist build
