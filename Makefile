# The commands of the house. `make demo` and `make test` set up everything they need; both may be run again and again.
PYTHON ?= python3
EXTRAS ?= all,dev
CONSTRAINTS ?= -c constraints.txt
DEMO ?=
EVALUATED ?= all,catboost,gcn
DATA ?= ../shared/data
EVALUATE ?= --protocol all --seeds 3 --jobs 2 --resume

BIN := .venv/bin
comma := ,
installed = .venv/.installed-$(subst $(comma),+,$(1))

# uv knows pip's settings by other names.
export UV_FIND_LINKS ?= $(PIP_FIND_LINKS)
ifdef PIP_CERT
export SSL_CERT_FILE ?= $(PIP_CERT)
endif
ifdef PIP_INDEX_URL
export UV_DEFAULT_INDEX ?= $(PIP_INDEX_URL)
endif

# OpenMP threads that spin on busy cores cost more than they give.
export OMP_WAIT_POLICY := PASSIVE

.PHONY: demo compress-demo serve evaluate test check lint types borders format clean help

help:
	@echo "make demo     generate, measure, train, evaluate and query on this machine"
	@echo "make compress-demo  compress a network of digits for this machine"
	@echo "make serve    serve what the demo left"
	@echo "make evaluate judge the predictors by the published protocols: make evaluate DATA=FOLDER"
	@echo "make test     run the tests"
	@echo "make check    what CI runs: lint, types, borders between the rooms, tests"
	@echo "make format   format the code"
	@echo "make clean    remove the environment and caches"

demo: $(call installed,all)
	$(BIN)/leti demo $(DEMO)

compress-demo: $(call installed,all$(comma)compression)
	OMP_NUM_THREADS=1 $(BIN)/leti compress --demo

serve: $(call installed,all)
	$(BIN)/leti serve --home leti-home --no-auth

# Takes hours with every kind. What is there stays there, and an evaluation that was cut off goes on.
evaluate: $(call installed,$(EVALUATED))
	OMP_NUM_THREADS=1 $(BIN)/leti evaluate $(EVALUATE) --data $(DATA) --out build/accuracy
	mkdir -p docs/images
	cp build/accuracy/accuracy.md build/accuracy/accuracy.json docs/
	cp build/accuracy/images/*.png docs/images/

# What measures for its own sake runs by itself, after all the others.
test: $(call installed,$(EXTRAS))
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal --durations=40 -m 'not alone'
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --durations=10 -m alone $$(grep -rl --include='test_*.py' mark.alone tests) \
		|| test $$? = 5  # without their extras, there are none

check: lint types borders test

lint: $(call installed,$(EXTRAS))
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(call installed,$(EXTRAS))
	$(BIN)/mypy

borders: $(call installed,$(EXTRAS))
	$(BIN)/lint-imports

format: $(call installed,$(EXTRAS))
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

# The environment: uv is installed into it by pip, and installs the rest in seconds. A step that was cut off leaves no
# stamp, and the next run goes on from what is there.
.venv/.uv: constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt uv
	touch $@

.venv/.installed-%: .venv/.uv pyproject.toml constraints.txt
	$(BIN)/uv pip install --python $(BIN)/python --compile-bytecode $(CONSTRAINTS) -e '.[$(subst +,$(comma),$*)]'
	touch $@
