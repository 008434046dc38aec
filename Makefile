# Each target makes what it needs; `make demo` and `make test` work on a fresh clone.
PYTHON ?= python3
BIN := .venv/bin
MINUTES ?= 10

# Byte code is kept, or each process of the tests would compile all anew.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: demo test coverage lint format integration bench clean promises soak browser docs fuzz matrix oldest package

.venv/installed: pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed, PYTHON=... chooses one") if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade "pip>=25.1"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --group test --group lint --editable .
	touch $@

demo: .venv/installed
	$(BIN)/aiosmrt demo

test: .venv/installed
	$(BIN)/python -m pytest -n 6  # on two cores, too: half of the time tests wait

coverage: .venv/installed
	$(BIN)/python -m pytest --cov --cov-report=term-missing

promises: .venv/installed
	AIOSMRT_BOOKS=2 AIOSMRT_DROPPED_CALLS=1000 AIOSMRT_LEFT_STREAMS=10000 AIOSMRT_PUSHED_MEGABYTES=1024 \
	AIOSMRT_BATCH_ROWS=20000 AIOSMRT_KILLED_ROWS=20000 AIOSMRT_RELAYED_STREAMS=200 AIOSMRT_OBSERVED_CALLS=10000 AIOSMRT_BYTE_STEP=1 \
	AIOSMRT_CANCELLED_AGENTS=1000 \
		$(BIN)/python -m pytest -s tests/promises tests/openai/test_cancellation.py
	AIOSMRT_MUTATED_ANSWERS=5000000 $(BIN)/python -m pytest --log-cli-level=INFO tests/fuzz
	AIOSMRT_EXAMPLES=2000 $(BIN)/python -m pytest -m hypothesis tests

soak: .venv/installed  # writes benchmarks/SOAK.md
	$(BIN)/python -m tests.soak --minutes $(MINUTES)

.venv-fuzz/installed: pyproject.toml
	$(PYTHON) -m venv .venv-fuzz
	.venv-fuzz/bin/python -m pip install --quiet --disable-pip-version-check --upgrade "pip>=25.1"
	.venv-fuzz/bin/python -m pip install --quiet --disable-pip-version-check --group fuzz --editable . || \
		.venv-fuzz/bin/python -m pip install --quiet --disable-pip-version-check --editable .
	touch $@

fuzz: .venv-fuzz/installed
	.venv-fuzz/bin/python -m tests.fuzz --minutes $(MINUTES)

browser: .venv/installed
	$(BIN)/python -m pytest tests/browser/check_event_source.py tests/browser/check_chat_page.py

.venv-integration/installed: pyproject.toml
	$(PYTHON) -m venv .venv-integration
	.venv-integration/bin/python -m pip install --quiet --disable-pip-version-check --upgrade "pip>=25.1"
	.venv-integration/bin/python -m pip install --quiet --disable-pip-version-check --group integration --editable .
	-mkdir -p .venv-integration/javascript && cd .venv-integration/javascript && npm install --silent --no-save \
		aws-sdk@2 @aws-sdk/client-sagemaker-runtime @aws-sdk/client-s3 @aws-sdk/lib-storage @aws-sdk/s3-request-presigner
	touch $@

.venv-agents/installed .venv-agents-openai2/installed: .venv-%/installed: pyproject.toml
	$(PYTHON) -m venv .venv-$*
	.venv-$*/bin/python -m pip install --quiet --disable-pip-version-check --upgrade "pip>=25.1"
	.venv-$*/bin/python -m pip install --quiet --disable-pip-version-check --group $* --editable .
	touch $@

integration: .venv-integration/installed .venv-agents/installed .venv-agents-openai2/installed
	AIOSMRT_NODE_MODULES=$(CURDIR)/.venv-integration/javascript/node_modules \
	.venv-integration/bin/python -m pytest -p no:cacheprovider -o addopts= -o filterwarnings=default -s -v \
		tests/integration/check_predictions.py tests/integration/check_clients.py \
		tests/integration/check_ray.py tests/integration/check_telemetry.py
	for environment in .venv-agents .venv-agents-openai2; do \
		$$environment/bin/python -m pip list 2>/dev/null | grep -E '^(openai|pydantic-ai|langchain|strands)' && \
		$$environment/bin/python -m pytest -p no:cacheprovider -o addopts= -o filterwarnings=default -s -v \
			tests/integration/check_frameworks.py || exit 1; \
	done

.venv-bench/installed: pyproject.toml
	$(PYTHON) -m venv .venv-bench
	.venv-bench/bin/python -m pip install --quiet --disable-pip-version-check --upgrade "pip>=25.1"
	.venv-bench/bin/python -m pip install --quiet --disable-pip-version-check --group bench --editable .
	if command -v npm >/dev/null; then \
		npm install --no-save --no-audit --no-fund --loglevel=error --prefix .venv-bench/node \
			@aws-sdk/client-sagemaker-runtime || true; \
	fi
	touch $@

bench: .venv-bench/installed
	.venv-bench/bin/python -m benchmarks

.venv-docs/installed: pyproject.toml
	$(PYTHON) -m venv .venv-docs
	.venv-docs/bin/python -m pip install --quiet --disable-pip-version-check --upgrade "pip>=25.1"
	.venv-docs/bin/python -m pip install --quiet --disable-pip-version-check --group docs --editable .
	touch $@

docs: .venv-docs/installed  # what is wrong, a link that leads nowhere too, fails it
	.venv-docs/bin/python -m sphinx --fail-on-warning --keep-going --quiet --jobs auto \
		--builder dirhtml docs build/docs
	.venv-docs/bin/python docs/questions.py build/docs

.venv-matrix/installed: pyproject.toml
	$(PYTHON) -m venv .venv-matrix
	.venv-matrix/bin/python -m pip install --quiet --disable-pip-version-check --upgrade "pip>=25.1"
	.venv-matrix/bin/python -m pip install --quiet --disable-pip-version-check --group matrix
	touch $@

NOX := .venv-matrix/bin/python -m nox --reuse-existing-virtualenvs

matrix: .venv-matrix/installed  # each Python that is here, with the oldest and the newest versions
	$(NOX) --session tests

oldest: .venv-matrix/installed  # this Python, with the oldest versions; TESTS=... chooses
	$(NOX) --session tests --keywords oldest \
		--python "$$($(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])')" -- $(TESTS)

package: .venv-matrix/installed  # two builds, each extra alone, the types
	$(NOX) --session package extras

lint: .venv/installed
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

format: .venv/installed
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

clean:
	rm -rf .venv .venv-* .nox build dist .coverage .hypothesis .mypy_cache .pytest_cache .ruff_cache
