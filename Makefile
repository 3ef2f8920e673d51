# The commands of daily work. A second run of each is quick: stamps in .venv say what is up to date.

PYTHON ?= python3
HOST ?= 127.0.0.1
PORT ?= 8080
REDIS ?=
EXTRAS ?= service
SECONDS ?= 60
IMAGE ?= sse-kit:dev
VENV := .venv
PY := $(VENV)/bin/python
# For the image's Python, with the hashes of the files for all processors.
PIN := $(VENV)/bin/uv pip compile -q --upgrade --python-version 3.13 --generate-hashes --no-annotate --custom-compile-command "make pins"
NATIVE := $(shell find sse_core -name '*.pyx' -o -name '*.pxd' -o -name '*.h')

.PHONY: build run test test-soak test-sanitize fuzz screenshots check fix bundle image pins bench bench-peers bench-growth bench-capacity load clean help

build: $(VENV)/.service  ## install what is missing, build the extension
	@PYTHON=$(PYTHON) scripts/install-system-packages run

run: build  ## gunicorn and nginx with a live page, until Ctrl-C (PORT=8080 HOST=127.0.0.1); two workers on Redis: REDIS=1
	@$(if $(REDIS),PYTHON=$(PYTHON) scripts/install-system-packages redis)
	@$(PY) scripts/run.py --host $(HOST) --port $(PORT) $(if $(REDIS),--redis)

test: build $(VENV)/.tools  ## all tests but the long ones
	@PYTHON=$(PYTHON) scripts/install-system-packages test
	scripts/run-tests $(PY)

test-soak: build $(VENV)/.tools  ## the tests that take minutes
	@PYTHON=$(PYTHON) scripts/install-system-packages soak
	$(PY) -m pytest -m soak

test-sanitize: build $(VENV)/.tools  ## the core's tests with address, undefined-behaviour and thread sanitizers (five minutes)
	scripts/test-sanitized $(PY) address,undefined
	scripts/test-sanitized $(PY) thread

fuzz: build $(VENV)/.fuzz  ## coverage-guided fuzzing of what takes bytes from outside (SECONDS=60 a target; needs clang)
	scripts/fuzz $(PY) $(SECONDS)

# Some of what they show is Chinese, which takes a font: of Debian's, fonts-wqy-zenhei.
screenshots: build $(VENV)/.tools  ## the README's pictures of the page, docs/images/, taken by the tests in a browser
	@PYTHON=$(PYTHON) scripts/install-system-packages test
	@# The last one takes them; what the others do before is in its charts.
	$(PY) -m pytest $(patsubst %,tests/browser/test_%.py,dashboard demos generate overview) --screenshots

check: build $(VENV)/.tools  ## linters, types, nginx's own check, manifests; edits nothing
	@PYTHON=$(PYTHON) scripts/install-system-packages check
	$(VENV)/bin/ruff check
	$(VENV)/bin/ruff format --check
	$(VENV)/bin/mypy
	@# It calls pycodestyle by name.
	PATH="$(CURDIR)/$(VENV)/bin:$$PATH" cython-lint sse_core
	@PY=$(PY) scripts/check-nginx
	@$(PY) scripts/check_kubernetes.py
	@$(PY) scripts/check_gateway.py
	$(VENV)/bin/hadolint --failure-threshold style Dockerfile loadtest/Dockerfile

fix: build $(VENV)/.tools  ## what the linters can repair by themselves
	$(VENV)/bin/ruff check --fix
	$(VENV)/bin/ruff format

bundle: build $(VENV)/.bundle  ## the service as one file that needs only Python: dist/sse-kit.pyz (EXTRAS=service)
	$(PY) scripts/bundle.py dist/sse-kit.pyz --extras $(EXTRAS)

image:  ## the service as a container image: IMAGE=sse-kit:dev (docker, podman or buildah)
	@scripts/build-image $(IMAGE)

pins: $(VENV)/.python  ## renew what the image is made of: deploy/image/*.txt
	$(PY) -m pip install -q --group pins
	$(PIN) --group load -o deploy/image/load.txt
	$(PIN) --group image -o deploy/image/build.txt
	$(PIN) pyproject.toml --extra service -o deploy/image/service.txt
	$(PIN) pyproject.toml $(patsubst %,--extra %,service openai anthropic) -o deploy/image/service-llm.txt

bench: build $(VENV)/.tools  ## measure against a plain server (alone on the machine)
	$(PY) -m benchmarks

bench-peers: build $(VENV)/.tools  ## measure other servers beside ours and write docs/peers.md (20 minutes, alone on the machine)
	@PYTHON=$(PYTHON) scripts/install-system-packages peers
	$(PY) -m benchmarks.peers --write

bench-growth: build $(VENV)/.tools  ## how cost grows with streams, topics, sizes, loops: writes docs/growth.md (alone on the machine)
	$(PY) -m benchmarks.growth --write

bench-capacity: build $(VENV)/.tools  ## as many streams as a machine holds: writes docs/capacity.md (STREAMS=100000, alone on the machine)
	@PYTHON=$(PYTHON) scripts/install-system-packages redis
	$(PY) -m benchmarks.capacity --write $(if $(STREAMS),--streams $(STREAMS))

load: build $(VENV)/.load  ## a short run of every load scenario against a fresh kit; the report: run/load/ (SCENARIOS="steady storm")
	@PYTHON=$(PYTHON) scripts/install-system-packages redis
	$(PY) -m loadtest.matrix $(SCENARIOS)

clean:  ## all that make has made
	rm -rf $(VENV) build dist run *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find sse_core -name '*.so' -delete
	find sse_core -name '*.pyx' | sed 's/pyx$$/c/' | xargs rm -f

help:
	@sed -n 's/^\([a-z-]*\):.*##  *\(.*\)/  make \1  \2/p' Makefile

$(VENV)/.python:
	@PYTHON=$(PYTHON) scripts/install-system-packages run
	$(PYTHON) -m venv $(VENV)
	$(PY) -m pip install -q --upgrade pip
	@touch $@

# The extension is compiled in place, so tests and tools see the sources and never a stale copy.
$(VENV)/.service: $(VENV)/.python pyproject.toml setup.py $(NATIVE)
	$(PY) -m pip install -q --group build
	$(PY) -m pip install -q --no-build-isolation -e '.[service]'
	@touch $@

$(VENV)/.bundle: $(VENV)/.python pyproject.toml
	$(PY) -m pip install -q --group bundle
	@touch $@

$(VENV)/.load: $(VENV)/.python pyproject.toml
	$(PY) -m pip install -q --group load
	@touch $@

$(VENV)/.fuzz: $(VENV)/.tools
	$(PY) -m pip install -q --group fuzz
	@touch $@

$(VENV)/.tools: $(VENV)/.python pyproject.toml
	$(PY) -m pip install -q --group check --group test --group bench
	@touch $@
