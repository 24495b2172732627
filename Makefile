# The one entry: each target does all it needs on a machine that has Python 3.11+ and a C++ compiler.

PYTHON ?= python3
BIN := .venv/bin
PARTS := wire ops training exporter serving cli examples
SOURCES := $(PARTS) tools tests benchmarks

.DEFAULT_GOAL := help
.PHONY: help demo test test-parity test-tfs check fmt proto build serve bench docs parity fuzz clean

help:  ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-11s %s\n", $$1, $$2}'

demo: .venv/.ready  ## train on the Titanic list, export, serve, ask over REST and gRPC
	@$(BIN)/estimator-serving demo --directory build/demo

test: .venv/.ready  ## all tests
	@$(BIN)/python -m pytest -q

test-parity: .venv/.ready  ## layers, optimizers and estimators beside a TensorFlow; TF=path/to/a/python that has 2.15
	@test -n "$(TF)" || { echo "Say which Python has tensorflow 2.15: make test-parity TF=path/to/python"; exit 1; }
	@mkdir -p build/parity
	@$(TF) tests/training/goldens/make_goldens.py build/parity
	@$(TF) tests/training/goldens/make_layer_goldens.py build/parity
	@ESTIMATOR_GOLDENS=$(CURDIR)/build/parity $(BIN)/python -m pytest -q tests/training/test_parity.py tests/training/nn/test_layers.py

test-tfs: .venv/.ready  ## every call made by TensorFlow's own client; TF=path/to/a/python that has tensorflow-serving-api 2.15
	@test -n "$(TF)" || { echo "Say TF=path/to/python, one that has tensorflow 2.15 and tensorflow-serving-api."; exit 1; }
	@TENSORFLOW_PYTHON=$(TF) $(BIN)/python -m pytest -q tests/conformance/test_tensorflow_client.py

check: .venv/.ready  ## lint, types, one-way imports, committed protos
	@$(BIN)/ruff check $(SOURCES)
	@$(BIN)/ruff format --check $(SOURCES)
	@$(BIN)/mypy
	@PYTHONPATH=.links $(BIN)/lint-imports --no-logo
	@$(BIN)/python tools/compile_protos.py --check

fmt: .venv/.ready  ## format the sources and mend what the linter can
	@$(BIN)/ruff format $(SOURCES)
	@$(BIN)/ruff check --fix $(SOURCES)

proto: .venv/.ready  ## compile proto/ into wire/pb
	@$(BIN)/python tools/compile_protos.py

build: .venv/.ready  ## compile the op library again
	@$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --editable .

serve: .venv/.ready  ## serve the Titanic model that `make demo` left in build/demo
	@$(BIN)/estimator-serving serve --model_name titanic --model_base_path $(CURDIR)/build/demo/servable

bench: .venv/.ready  ## the measurements of docs/benchmarks.md; TF=path/to/a/python that has tensorflow 2.15
	@$(BIN)/python benchmarks/rest_predict.py
	@$(BIN)/python benchmarks/grpc_predict.py
	@$(if $(TF),$(BIN)/python benchmarks/estimator_steps.py --tensorflow-python $(TF),echo "Without TF= nothing is compared with TensorFlow.")
	@$(if $(TF),$(BIN)/python benchmarks/parse_example.py --tensorflow-python $(TF),true)
	@$(BIN)/python benchmarks/batching.py --seconds 5 --rounds 2 --overload 10
	@$(BIN)/python benchmarks/version_swap.py
	@$(BIN)/python benchmarks/titanic_server.py
	@$(BIN)/python benchmarks/tensor_bundle.py

docs: .venv/.ready  ## check that the documents' commands, paths and snippets are true
	@$(BIN)/python -m pytest -q tests/test_docs.py

parity: .venv/.ready  ## the parsing ops against TensorFlow on random specs and Examples; TF=path/to/its/python CASES=10000
	@$(BIN)/python tests/ops/parity.py --tensorflow-python $(or $(TF),$(error say TF=path/to/a/python that has tensorflow 2.15)) --cases $(or $(CASES),10000)

fuzz:  ## fuzz the decoder with clang's libFuzzer (apt-get install clang libclang-rt-14-dev); SECONDS_MAX=660 or RUNS=10000000
	@CXX=clang++ cmake -S ops -B build/fuzz -D ESTIMATOR_OPS_FUZZ=ON >/dev/null
	@cmake --build build/fuzz --target fuzz_decode_example
	@$(PYTHON) ops/fuzz/seeds.py build/fuzz/corpus
	@ASAN_OPTIONS=malloc_context_size=0:quarantine_size_mb=1 build/fuzz/fuzz/fuzz_decode_example -entropic=0 -max_len=300 \
	  $(if $(RUNS),-runs=$(RUNS),-max_total_time=$(or $(SECONDS_MAX),660)) build/fuzz/corpus

clean:  ## remove what these targets made
	rm -rf .venv .links build

.venv/.ready: pyproject.toml constraints.txt ops/CMakeLists.txt $(wildcard ops/*.cc ops/*.h)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "Python 3.11 or newer is needed, $(PYTHON) is older; install one and say PYTHON=python3.x."; exit 1; }
	@command -v "$${CXX:-c++}" >/dev/null || command -v g++ >/dev/null || command -v clang++ >/dev/null || { \
	  echo "A C++17 compiler is needed to build the op library; install one, for example: apt-get install g++"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@echo "Installing into .venv (the first time takes some minutes) ..."
	@$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[training,dev]'
	@mkdir -p .links/estimator_serving
	@for part in $(PARTS); do ln -sfn ../../$$part .links/estimator_serving/$$part; done
	@touch $@
