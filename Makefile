# make demo    images from a DAG in a real Airflow, without a key: under three minutes
# make up      the same Airflow with its UI, until Ctrl-C
# make test    everything that must hold; under ten minutes on two cores
# make first-hour   README, tutorial and `make up` as they are told, in an empty environment: some minutes
# make browser the Images tab, the review form and logs in a running Airflow, as people see them: some minutes;
#              on Airflow 3.4, too, where GPT_IMAGE_AIRFLOW_34 names a python that has it
# make compat  the wheel on every Airflow and Python we support: a few minutes, once they are installed
# make soak    what takes longer: kill matrices on real components
# make bench   figures, side by side in one run
#
# PYTHON=python3.12 chooses another interpreter, ARGS="--bad-day" passes options on.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV ?= .venv
BIN := $(VENV)/bin
ARGS ?=

.PHONY: demo up test test-rooms test-airflow first-hour browser compat soak bench lint format clean

demo: $(VENV)/.demo
	$(BIN)/python -m stack demo $(ARGS)

up: $(VENV)/.demo
	$(BIN)/python -m stack up $(ARGS)

# Two at a time: those on a real Airflow mostly wait for it. What they say comes after the others. Of the
# others many wait for sockets, stores and disks: four processes keep two cores at work.
test: $(VENV)/.dev
	@$(MAKE) --no-print-directory lint test-airflow > .airflow-tests.log 2>&1 & airflow=$$!; \
	$(MAKE) --no-print-directory test-rooms; rooms=$$?; \
	wait $$airflow; airflow=$$?; cat .airflow-tests.log; rm -f .airflow-tests.log; exit $$((rooms | airflow))

test-rooms: $(VENV)/.dev
	$(BIN)/python -m coverage erase
	$(BIN)/python -m coverage run -m pytest -n 3 -m "not soak" tests/unit/api tests/unit/test_errors.py tests/property
	$(BIN)/python -m coverage combine --quiet
	$(BIN)/python -m coverage report --include="airflow_gpt_image/api/*,airflow_gpt_image/errors.py" --fail-under=100
	$(BIN)/python -m pytest -n 4 --dist loadfile --no-loadscope-reorder -m "not soak" tests/integration tests/packaging tests/unit \
		--ignore tests/unit/api --ignore tests/unit/test_errors.py $(ARGS)

test-airflow: $(VENV)/.dev
	$(BIN)/python -m pytest -m "not soak" tests/e2e $(ARGS)

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

first-hour: $(VENV)/.dev
	$(BIN)/python -m pytest -m soak tests/packaging/test_first_hour.py tests/e2e/test_make_up.py $(ARGS)

BROWSER := tests/unit/images_tab tests/unit/batch/test_contact_sheet_seen.py \
	$(addprefix tests/e2e/,test_images_tab.py test_images_tab_3_4.py \
	test_images_login.py test_images_below_a_path.py test_review.py test_log_pages.py test_form.py)

browser: $(VENV)/.dev
	$(BIN)/python -m pytest -m soak $(BROWSER) $(ARGS)

compat: $(VENV)/.dev
	$(BIN)/python -m tests.compat $(ARGS)

soak: $(VENV)/.dev
	$(BIN)/python -m pytest -m soak $(ARGS)

bench: $(VENV)/.bench
	$(BIN)/python -m tests.benchmarks $(ARGS)

$(VENV)/.venv:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	touch $@

$(VENV)/.demo: $(VENV)/.venv pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[emulator]"
	touch $@

$(VENV)/.dev: $(VENV)/.venv pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[dev]"
	touch $@ $(VENV)/.demo

# One of those that ours is beside is of a provider that nothing else needs.
$(VENV)/.bench: $(VENV)/.dev
	$(BIN)/python -m pip install --quiet --constraint constraints.txt apache-airflow-providers-openai
	touch $@

clean:
	rm -rf $(VENV) .compat demo-output dist test-artefacts .coverage .hypothesis .mypy_cache .ruff_cache
