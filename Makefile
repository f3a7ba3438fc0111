# `make` without a target lists the targets.
.DEFAULT_GOAL := help
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
HATRAIN := $(BIN)/hatrain
CLUSTER ?= local

.PHONY: chaos fuzz help setup gptq trackers transformers4 kubernetes-clients gguf demo test test-long lint plan render submit bench bench-data bench-launch bench-prepare bench-evaluate bench-model bench-gpu gpu-wheels record lock clean docs image sbom sqsh sif image-test

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(VENV)/ready ## create .venv from the pinned requirements

# Set-up is repeated when one of these files changes, and only then.
$(VENV)/ready: requirements.lock requirements-deepspeed.lock docker/requirements-build.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "hatrain needs Python 3.11 or newer; found $$($(PYTHON) --version). Try: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 1; }
	@echo "Setting up $(VENV) (about two minutes with a CPU build of torch; the CUDA build is several GB)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --disable-pip-version-check -r requirements.lock
	$(BIN)/pip install --disable-pip-version-check --quiet -r docker/requirements-build.lock
	$(if $(filter Darwin,$(shell uname -s)),,DS_BUILD_OPS=0 $(BIN)/pip install --disable-pip-version-check \
		--no-build-isolation --no-deps -r requirements-deepspeed.lock)
	$(BIN)/pip install --disable-pip-version-check --quiet --no-deps -e .
	@touch $@

# GPTQ needs an older numpy, and so an environment of its own. Its long test uses it too.
gptq: .venv-gptq/ready ## create .venv-gptq, for training on GPTQ bases: .venv-gptq/bin/hatrain submit home-7b-gptq

.venv-gptq/ready: requirements-gptq.lock pyproject.toml
	@test -x .venv-gptq/bin/python || $(PYTHON) -m venv .venv-gptq
	.venv-gptq/bin/pip install --disable-pip-version-check -r requirements-gptq.lock
	.venv-gptq/bin/pip install --disable-pip-version-check --quiet --no-deps -e .
	@touch $@

# The trackers' own packages bring a hundred others. A long test runs with them, in an environment of its own.
trackers: .venv-trackers/ready ## create .venv-trackers, for the long test with W&B, MLflow and Trackio

.venv-trackers/ready: requirements-trackers.lock pyproject.toml
	@test -x .venv-trackers/bin/python || $(PYTHON) -m venv .venv-trackers
	.venv-trackers/bin/pip install --disable-pip-version-check -r requirements-trackers.lock
	.venv-trackers/bin/pip install --disable-pip-version-check --quiet --no-deps -e .
	@touch $@

# A long test loads what a run writes with transformers 4.57, and compares logits.
transformers4: .venv-transformers4/ready ## create .venv-transformers4, for the long test with transformers 4.57

.venv-transformers4/ready: requirements-transformers4.lock
	@test -x .venv-transformers4/bin/python || $(PYTHON) -m venv .venv-transformers4
	.venv-transformers4/bin/pip install --disable-pip-version-check -r requirements-transformers4.lock
	@touch $@

# A long test holds what a cluster file may have of a pod against what the client of each version of Kubernetes has. They stay
# wheels, from which Python imports: unpacked they are 400 MB.
KUBERNETES_CLIENTS := 20.13.0 21.7.0 22.6.0 23.6.0 24.2.0 25.3.0 26.1.0 27.2.0 28.1.0 29.0.0 30.1.0 31.0.0 32.0.1 33.1.0 34.1.0
kubernetes-clients: .venv-kubernetes/ready ## create .venv-kubernetes, for the long test with Kubernetes' clients

.venv-kubernetes/ready: requirements-kubernetes.lock
	@test -x .venv-kubernetes/bin/python || $(PYTHON) -m venv .venv-kubernetes
	.venv-kubernetes/bin/pip install --disable-pip-version-check -r requirements-kubernetes.lock
	@for version in $(KUBERNETES_CLIENTS); do \
		.venv-kubernetes/bin/pip download --disable-pip-version-check --quiet --no-deps --dest .venv-kubernetes/clients \
			kubernetes==$$version || exit; \
	done
	@touch $@

# hatrain export needs llama.cpp's converter, and libllama to quantise and to run the files. npm has libllama compiled; where
# there is no npm, or another system, pip compiles it in some ten minutes.
LLAMA_NPM := 3.22.1
LLAMA_PYTHON := 0.3.36
LLAMA_ARCH := $(patsubst aarch64,arm64,$(patsubst x86_64,x64,$(shell uname -m)))
LLAMA_TGZ := node-llama-cpp-linux-$(LLAMA_ARCH)-$(LLAMA_NPM).tgz
gguf: $(VENV)/gguf ## add to .venv what hatrain export needs: llama.cpp and its converter

$(VENV)/gguf: $(VENV)/ready requirements-gguf.lock llama.cpp.sha256
	$(BIN)/pip install --disable-pip-version-check --no-deps -r requirements-gguf.lock
	@if [ "$$(uname -s)" = Linux ] && command -v npm > /dev/null && grep -q " $(LLAMA_TGZ)$$" llama.cpp.sha256; then \
		rm -rf $(VENV)/llama.cpp && mkdir $(VENV)/llama.cpp; \
		npm pack --silent --pack-destination $(VENV)/llama.cpp @node-llama-cpp/linux-$(LLAMA_ARCH)@$(LLAMA_NPM); \
		(cd $(VENV)/llama.cpp && grep " $(LLAMA_TGZ)$$" "$(CURDIR)/llama.cpp.sha256" | sha256sum --check --quiet && \
			tar --extract --gzip --strip-components 3 --wildcards --file $(LLAMA_TGZ) '*.so' && rm $(LLAMA_TGZ)); \
	else \
		$(BIN)/pip install --disable-pip-version-check --no-deps llama-cpp-python==$(LLAMA_PYTHON); \
	fi
	@touch $@

# --- the demo: data for one small home, a model trained from scratch, an evaluation on phrasings it never saw ---

DEMO := data/demo

$(DEMO)/home_assistant_train.jsonl: hatrain/home/demo.yaml | setup
	@echo "Generating requests for the home of hatrain/home/demo.yaml"
	$(HATRAIN) data --client guide --train --test --home hatrain/home/demo.yaml --language english --seed 42 \
		--requests-per-home 8 --out $(DEMO)

models/demo-base/config.json: $(DEMO)/home_assistant_train.jsonl | setup
	@echo "Creating a small base model; nothing is downloaded"
	$(HATRAIN) tiny --data $(DEMO)/home_assistant_train.jsonl --out models/demo-base \
		--vocabulary 1024 --hidden 128 --layers 2

MODEL := tiny
demo: demo-$(MODEL) ## train and evaluate a small model on this machine, in about four minutes; a real one: make demo MODEL=smollm2

.PHONY: demo-tiny demo-smollm2
demo-tiny: setup models/demo-base/config.json
	$(HATRAIN) submit jobs/demo.yaml --cluster local --follow

# A real model: SmolLM2-135M, which a package ships. Its rows are those of a client that reads calls from text.
SMOLLM2 := data/demo-smollm2
SMOLLM2_ROWS := 256

models/smollm2-135m/config.json: bench/model/requirements.lock | setup
	@echo "Fetching SmolLM2-135M-Instruct, 94 MB"
	@$(BIN)/python -m bench.model.base models/smollm2-135m
	@touch $@

$(SMOLLM2)/train.jsonl: hatrain/home/demo.yaml | setup
	@echo "Generating requests for the home of hatrain/home/demo.yaml, of which $(SMOLLM2_ROWS) are trained on"
	$(HATRAIN) data --client home-llm-legacy --train --test --home hatrain/home/demo.yaml --language english --seed 42 \
		--requests-per-home 8 --out $(SMOLLM2)
	@head -n $(SMOLLM2_ROWS) $(SMOLLM2)/home_assistant_train.jsonl > $@

demo-smollm2: setup models/smollm2-135m/config.json $(SMOLLM2)/train.jsonl
	$(HATRAIN) submit jobs/demo-smollm2.yaml --cluster local --follow

demo-%:
	@echo "make demo MODEL=$*: accepted: tiny (the default) and smollm2" >&2; exit 2

# --- jobs ---

plan: setup ## print every decision about JOB: make plan JOB=demo [CLUSTER=local]
	@$(HATRAIN) plan "$(JOB)" --cluster "$(CLUSTER)"

render: setup ## print the files of JOB for CLUSTER
	@$(HATRAIN) render "$(JOB)" --cluster "$(CLUSTER)"

submit: setup ## start JOB on CLUSTER: make submit JOB=demo [CLUSTER=local]
	@$(HATRAIN) submit "$(JOB)" --cluster "$(CLUSTER)"

# --- the image; docs/image.md says what LOCK=, SOURCES=, TORCH_CUDA_ARCH_LIST= and the rest change ---

export IMAGE ?= hatrain:latest

image: ## build the CUDA image with docker, podman or buildah, and list its largest parts
	@docker/image.sh build

sbom: ## write the image's bill of materials (CycloneDX) to hatrain.cdx.json
	@docker/image.sh sbom > hatrain.cdx.json.partial && mv hatrain.cdx.json.partial hatrain.cdx.json

sqsh: ## make a squashfs of the image, for pyxis
	@docker/image.sh sqsh

sif: ## make a SIF of the image, for apptainer
	@docker/image.sh sif

# --- tests and benchmarks ---

# One process per core, one thread per process. The tests of a file share slow fixtures, and stay in one process.
PYTEST := OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE $(BIN)/pytest --numprocesses auto --dist loadfile

test: setup ## the whole suite
	$(PYTEST) -m "not long" $(ONLY)

test-long: setup gptq trackers transformers4 kubernetes-clients gguf ## tests that take too long for every change; property tests draw new examples
	HATRAIN_EXPLORE=1 $(PYTEST) -m "long or property" $(ONLY)

KILLS ?= 12
SEED ?= 1
MINUTES ?= 60

chaos: setup ## real runs killed at random points, damaged, starved of disk: make chaos [KILLS=12] [SEED=1]
	@$(BIN)/python -m bench.chaos --kills $(KILLS) --seed $(SEED)

fuzz: setup ## hostile inputs for everything that reads a file or a model's text: make fuzz [MINUTES=60]
	@$(BIN)/python -m bench.fuzz --minutes $(MINUTES)

image-test: setup ## build the whole CPU image, and train in it (buildah, podman, debootstrap; as root)
	$(PYTEST) tests/image

lint: setup ## ruff, mypy, shellcheck and hadolint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/shellcheck .ci/run .ci/wheel $$(git ls-files '*.sh')
	$(BIN)/hadolint docker/Dockerfile

bench-data: setup ## rows per second and peak memory of the generator, by size
	@$(BIN)/python bench/data.py

bench-launch: setup .venv-bench/ready ## seconds to plan and render a job, and a thousand, beside submitit and torchx
	@$(BIN)/python bench/launch.py .venv-bench/bin/python

.venv-bench/ready: bench/requirements.lock
	@test -x .venv-bench/bin/python || $(PYTHON) -m venv .venv-bench
	.venv-bench/bin/pip install --disable-pip-version-check --quiet -r bench/requirements.lock
	@touch $@

bench: setup .venv-peers/ready ## rows per second of training beside TRL, in turns: writes bench/RESULTS.md, half an hour on a quiet machine
	@$(BIN)/python -m bench.training $(ARGS)

bench-prepare: setup .venv-peers/ready ## rows per second of preparation beside TRL, in turns: writes bench/RESULTS-prepare.md
	@$(BIN)/python -m bench.prepare $(ARGS)

.venv-peers/ready: bench/peers.lock
	@test -x .venv-peers/bin/python || $(PYTHON) -m venv .venv-peers
	.venv-peers/bin/pip install --disable-pip-version-check --quiet -r bench/peers.lock
	@touch $@

BASE ?= 854315a

bench-evaluate: setup ## requests per second of an evaluation beside revision BASE, in turns: writes bench/RESULTS-evaluate.md, half an hour
	@$(BIN)/python -m bench.evaluate --base $(BASE) $(ARGS)

bench-model: setup gguf ## a real model from its package to a judged GGUF file, and one table: make bench-model [SIZE=full] [ARGS="--intents CLONE"]
	@$(BIN)/python -m bench.model $(or $(SIZE),short) $(ARGS)

bench-gpu: ## train on this machine's GPU for nine minutes, and write bench/RESULTS-gpu.md: make bench-gpu [ARGS="--minutes 5"]
	@PYTHON=$(PYTHON) bench/gpu.sh $(ARGS)

# What a machine with Python 3.12, torch and transformers lacks, at the versions of requirements.lock.
GPU_WHEELS ?= trl datasets pydantic pydantic_core annotated-types typing-inspection multiprocess dill xxhash bitsandbytes
empty :=
space := $(empty) $(empty)

gpu-wheels: ## download into bench/wheels what bench/gpu.sh needs on a machine without a network
	@rm -rf bench/wheels
	@$(PYTHON) -m pip download --quiet --disable-pip-version-check --no-deps --only-binary=:all: \
		--python-version 3.12 --platform manylinux2014_x86_64 --platform manylinux_2_17_x86_64 \
		--platform manylinux_2_24_x86_64 --platform manylinux_2_28_x86_64 --dest bench/wheels \
		$$(grep -E '^($(subst $(space),|,$(strip $(GPU_WHEELS))))==' requirements.lock)
	@du -sh bench/wheels

docs: .venv-docs/ready ## build the documentation's site into site/, with every link and anchor checked
	@NO_MKDOCS_2_WARNING=1 .venv-docs/bin/mkdocs build --quiet --strict

.venv-docs/ready: requirements-docs.lock
	@test -x .venv-docs/bin/python || $(PYTHON) -m venv .venv-docs
	.venv-docs/bin/pip install --disable-pip-version-check --quiet -r requirements-docs.lock
	@touch $@

record: setup ## rewrite the golden files and the schemas; check the diff
	HATRAIN_RECORD=1 $(PYTEST) -m "not long" tests/cli tests/contract tests/home tests/kubernetes tests/launch

lock: setup ## pin what .venv holds now, and what goes into the image
	@{ echo "# Every package of the environment, at the version that was tested. 'make lock' writes it."; \
	   $(BIN)/pip freeze --exclude-editable | grep --invert-match --extended-regexp \
		"^(llama_cpp_python|$$(sed -n 's/==.*//p' requirements-gguf.lock | paste -sd '|'))==" | \
		sed '/^deepspeed==/d; s/^\(torch==[0-9.]*\)+.*/\1/'; } > requirements.lock.new
	@mv requirements.lock.new requirements.lock
	@{ echo "# DeepSpeed is built against the torch that is there: after requirements.lock, and not in isolation."; \
	   $(BIN)/pip freeze --exclude-editable | grep '^deepspeed=='; } > requirements-deepspeed.lock
	@test -x .venv-lock/bin/uv || { $(PYTHON) -m venv .venv-lock && .venv-lock/bin/pip install --quiet uv==0.13.9; }
	@.venv-lock/bin/python docker/lock.py

clean: ## remove the environments, data, models and runs
	rm -rf $(VENV) .venv-gptq .venv-trackers .venv-transformers4 .venv-kubernetes .venv-bench .venv-peers .venv-lock .venv-docs bench/wheels data models runs site
