# The one entry: each target does all it needs on a machine that has Python 3.11+ and a C++ compiler.

PYTHON ?= python3
BIN := .venv/bin
PARTS := wire ops training exporter serving cli examples
SOURCES := $(PARTS) tools tests benchmarks
# Three workers suit a machine of two cores, because many tests wait. tests/conftest.py says which files share a worker
# and which start first.
IN_PARALLEL := --numprocesses=$(or $(WORKERS),3) --dist=loadfile --no-loadscope-reorder

# Tests start many processes. They share compiled bytecode, whatever the environment says, and each computes on one core.
unexport PYTHONDONTWRITEBYTECODE
test coverage: export OMP_NUM_THREADS := 1
# They write and remove thousands of small files, and a disk makes them wait for each: in memory, where there is room.
IN_MEMORY := $(shell df --output=avail /dev/shm 2>/dev/null | awk '$$1 > 4000000 { print "/dev/shm" }')
test coverage: export TMPDIR := $(or $(IN_MEMORY),$(TMPDIR))

.DEFAULT_GOAL := help
# WORKERS=3 is for pytest; the servers that tests start would take it for their flag --workers.
unexport WORKERS
.PHONY: help demo test coverage check fmt proto build serve bench budgets docs manual fuzz sanitize fuzz-savedmodel fuzz-server soak clean oracle-training oracle-ports oracle-ops oracle-clients oracle-kserve oracle-openapi oracle-perf-analyzer oracle-savedmodel oracle-trees oracle-models oracle-keras

help:  ## show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-15s %s\n", $$1, $$2}'

demo: .venv/.ready  ## train on the Titanic list, export, serve, ask over REST and gRPC
	@$(BIN)/estimator-serving demo --directory build/demo

test: .venv/.ready  ## all tests, or FILE=tests/serving/test_policy.py (a file, a folder, or file::test)
	@$(BIN)/python -m pytest -q $(if $(FILE),$(FILE),$(IN_PARALLEL) --durations=10)

coverage: .venv/.ready  ## all tests with a coverage figure by file; the report is build/coverage/index.html
	@$(BIN)/python -m pytest -q $(IN_PARALLEL) --cov=estimator_serving --cov-report=term --cov-report=html:build/coverage

check: .venv/.ready manual  ## lint, types, one-way imports, committed protos, the documentation's build
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

build: .venv/.ready  ## compile the op library and the codecs again
	@$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --editable .

serve: .venv/.ready  ## serve the Titanic model that `make demo` left in build/demo
	@$(BIN)/estimator-serving serve --model_name titanic --model_base_path $(CURDIR)/build/demo/servable

bench: .venv/.ready  ## this server beside others, written to docs/benchmarks/servers.md; FIELD="mlserver litserve" for these only
	@$(BIN)/python benchmarks/field/compare.py $(FIELD) $(if $(ENVIRONMENTS),--environments $(ENVIRONMENTS)) $(if $(FIELD),--page build/field/servers.md,--page docs/benchmarks/servers.md)

budgets: .venv/.ready  ## the measurements of docs/benchmarks.md; TF=path/to/a/python that has tensorflow 2.15
	@$(BIN)/python benchmarks/guard.py
	@$(BIN)/python benchmarks/request_path.py
	@$(BIN)/python benchmarks/rest_predict.py
	@$(BIN)/python benchmarks/grpc_predict.py
	@$(if $(TF),$(BIN)/python benchmarks/estimator_steps.py --tensorflow-python $(TF),echo "Without TF= nothing is compared with TensorFlow.")
	@$(if $(TF),$(BIN)/python benchmarks/parse_example.py --tensorflow-python $(TF),true)
	@$(if $(TF),taskset -c 0 $(BIN)/python benchmarks/tfrecord_input.py --tensorflow-python $(TF),true)
	@$(if $(TF),$(BIN)/python benchmarks/imported_model.py --tensorflow-python $(TF),true)
	@$(BIN)/python benchmarks/batching.py --seconds 5 --rounds 2 --overload 10
	@$(BIN)/python benchmarks/version_swap.py
	@$(BIN)/python benchmarks/isolation.py
	@$(BIN)/python benchmarks/workers.py
	@$(BIN)/python benchmarks/overload.py
	@$(BIN)/python benchmarks/titanic_server.py
	@$(BIN)/python benchmarks/open_inference.py
	@$(BIN)/python benchmarks/tensor_bundle.py
	@$(BIN)/python benchmarks/two_processes.py

manual: .venv/.ready
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict
	@grep -q tensorflow_model_server build/docs/reference/flags.html  # the flags that the command itself lists

docs: manual  ## build the documentation into build/docs, offline, with warnings as errors, and run its snippets
	@$(BIN)/python -m pytest -q tests/test_docs.py

# The oracles compare this project with TensorFlow 2.15, which cannot be installed beside it. TF names a Python that has it.

oracle-training: .venv/.ready oracle-python  ## layers, optimizers and estimators against TensorFlow's; TF=path/to/python
	@mkdir -p build/oracle
	@$(TF) tests/training/goldens/make_goldens.py build/oracle
	@$(TF) tests/training/goldens/make_layer_goldens.py build/oracle
	@$(TF) tests/training/goldens/make_checkpoint_goldens.py build/oracle
	@ESTIMATOR_GOLDENS=$(CURDIR)/build/oracle $(BIN)/python -m pytest -q tests/training/test_parity.py \
	  tests/training/nn/test_layers.py tests/training/checkpoints/test_tensorflow.py

oracle-ports: .venv/.ready oracle-python  ## five programs of TensorFlow 1 and their ports on the same files; TF=path/to/python, SEEDS=10 for the AUCs of one by seed
	@$(BIN)/python tests/ports/compare.py --tensorflow-python $(TF) $(if $(SEEDS),--seeds $(SEEDS))

oracle-ops: .venv/.ready oracle-python  ## the parsing ops against TensorFlow's on random specs; TF=path/to/python CASES=10000
	@$(BIN)/python tests/ops/parity.py --tensorflow-python $(TF) --cases $(or $(CASES),10000)

oracle-clients: .venv/.ready oracle-python  ## every call of tensorflow-serving-api 2.15 against the server; TF=path/to/python
	@$(TF) -c 'import tensorflow_serving' 2>/dev/null || { echo "$(TF) cannot import tensorflow_serving; install tensorflow-serving-api==2.15.1 there."; exit 1; }
	@TENSORFLOW_PYTHON=$(TF) $(BIN)/python -m pytest -q tests/conformance/test_tensorflow_client.py

oracle-kserve: .venv/.ready  ## the kserve SDK's v2 clients against the server; KSERVE=path/to/python
	@test -n "$(KSERVE)" || { echo "Give a Python that has kserve, for example: make oracle-kserve KSERVE=/opt/kserve/bin/python"; exit 1; }
	@KSERVE_PYTHON=$(KSERVE) $(BIN)/python -m pytest -q tests/conformance/test_kserve.py

oracle-openapi: .venv/.ready  ## schemathesis against the server's OpenAPI document; SCHEMATHESIS=path/to/schemathesis
	@test -n "$(SCHEMATHESIS)" || { echo "Give the schemathesis command, for example: make oracle-openapi SCHEMATHESIS=/opt/st/bin/schemathesis"; exit 1; }
	@SCHEMATHESIS=$(SCHEMATHESIS) $(BIN)/python -m pytest -q tests/conformance/test_schemathesis.py

oracle-perf-analyzer: .venv/.ready  ## Triton's perf_analyzer, and its figures beside the metrics; PERF_ANALYZER=path/to/perf_analyzer
	@test -n "$(PERF_ANALYZER)" || { echo "Give perf_analyzer of tritonclient 2.51.0, for example: make oracle-perf-analyzer PERF_ANALYZER=/opt/perf_analyzer"; exit 1; }
	@PERF_ANALYZER=$(PERF_ANALYZER) $(BIN)/python -m pytest -q -rP tests/conformance/test_perf_analyzer.py

oracle-savedmodel: .venv/.ready oracle-python  ## imported SavedModels against TensorFlow's answers; TF=path/to/python CASES=300
	@mkdir -p build/oracle-savedmodel
	@$(TF) tests/oracles/savedmodel/make.py build/oracle-savedmodel --cases $(or $(CASES),300) --seed $(or $(SEED),0)
	@$(TF) tests/oracles/savedmodel/make_models.py build/oracle-savedmodel
	@$(BIN)/python tests/oracles/savedmodel/check.py build/oracle-savedmodel

oracle-trees: .venv/.ready  ## imported boosted trees against TensorFlow 1.15's answers; TF=path/to/python3.7
	@$(TF) -c 'import tensorflow' 2>/dev/null || { echo "Give a Python 3.7 that has tensorflow 1.15: TF=path/to/python"; exit 1; }
	@$(TF) tests/oracles/savedmodel/make_trees.py build/oracle-trees
	@$(BIN)/python tests/oracles/savedmodel/check.py build/oracle-trees

oracle-models: .venv/.ready  ## models of other libraries on real data, exported and asked with every row; ONLY=LGBM
	@$(BIN)/python -W ignore tests/oracles/models/check.py $(if $(ONLY),--only "$(ONLY)",--write docs/reference/library-models.md)

oracle-keras: .venv/.ready  ## networks of TensorFlow's tutorials with 40 seeds each, exported and asked for every row; SEEDS=40
	@KERAS_BACKEND=torch $(BIN)/python -W ignore tests/oracles/keras/seeds.py --seeds $(or $(SEEDS),40)

.PHONY: oracle-python
oracle-python:
	@test -n "$(TF)" || { echo "Give a Python that has tensorflow 2.15, for example: make oracle-ops TF=/opt/tf/bin/python"; exit 1; }
	@$(TF) -c 'import tensorflow' 2>/dev/null || { echo "$(TF) cannot import tensorflow; install tensorflow==2.15.1 there."; exit 1; }

fuzz:  ## fuzz what reads requests and models in C++ with clang's libFuzzer (apt-get install clang libclang-rt-14-dev); SECONDS_MAX=660 or RUNS=10000000
	@CXX=clang++ cmake -S ops -B build/fuzz -D ESTIMATOR_OPS_FUZZ=ON >/dev/null
	@cmake --build build/fuzz --target fuzz_decode_example fuzz_read_body fuzz_read_inference \
	  fuzz_read_predict fuzz_read_http fuzz_read_onnx
	@$(PYTHON) ops/fuzz/seeds.py build/fuzz/corpus
	@$(PYTHON) ops/fuzz/request_seeds.py build/fuzz
	@ASAN_OPTIONS=malloc_context_size=0:quarantine_size_mb=1 build/fuzz/fuzz/fuzz_decode_example -entropic=0 -max_len=300 \
	  $(if $(RUNS),-runs=$(RUNS),-max_total_time=$(or $(SECONDS_MAX),660)) build/fuzz/corpus
	@build/fuzz/fuzz/fuzz_read_body -max_len=200 \
	  $(if $(RUNS),-runs=$(RUNS),-max_total_time=$(or $(SECONDS_MAX),660)) build/fuzz/json
	@build/fuzz/fuzz/fuzz_read_inference -max_len=300 \
	  $(if $(RUNS),-runs=$(RUNS),-max_total_time=$(or $(SECONDS_MAX),660)) build/fuzz/inference
	@build/fuzz/fuzz/fuzz_read_predict -max_len=200 \
	  $(if $(RUNS),-runs=$(RUNS),-max_total_time=$(or $(SECONDS_MAX),660)) build/fuzz/predict
	@build/fuzz/fuzz/fuzz_read_http -max_len=400 \
	  $(if $(RUNS),-runs=$(RUNS),-max_total_time=$(or $(SECONDS_MAX),660)) build/fuzz/http
	@build/fuzz/fuzz/fuzz_read_onnx -max_len=300 \
	  $(if $(RUNS),-runs=$(RUNS),-max_total_time=$(or $(SECONDS_MAX),660)) build/fuzz/onnx

sanitize: .venv/.ready  ## the tests of what is written in C++, built with ASan and UBSan by gcc; fails on a finding; TESTS=tests/ops
	@CXX=g++ cmake -S ops -B build/sanitize -D ESTIMATOR_OPS_SANITIZE=ON -D Python_EXECUTABLE=$(CURDIR)/$(BIN)/python >/dev/null
	@cmake --build build/sanitize
	@LD_PRELOAD="$$(g++ -print-file-name=libasan.so) $$(g++ -print-file-name=libstdc++.so)" PYTHONMALLOC=malloc \
	  ASAN_OPTIONS=detect_leaks=0 UBSAN_OPTIONS=print_stacktrace=1 \
	  $(BIN)/python tools/sanitized_tests.py build/sanitize $(or $(TESTS),tests/wire/native tests/wire/test_records.py tests/wire/test_onnx_model.py tests/ops)

fuzz-savedmodel: .venv/.ready  ## fuzz the readers of SavedModels with damaged ones; SECONDS_MAX=300 SEED=1
	@$(BIN)/python tools/fuzz_savedmodel.py --seconds $(or $(SECONDS_MAX),60) --seed $(or $(SEED),0)

fuzz-server: .venv/.ready  ## fuzz a server process over REST and gRPC; REQUESTS=1000000 SEED=1
	@$(BIN)/python tools/fuzz_server.py --requests $(or $(REQUESTS),1000000) --seed $(or $(SEED),0)

soak: .venv/.ready  ## mixed traffic with version swaps: failures, memory, threads, files; MINUTES=15 SWAPS=200
	@$(BIN)/python benchmarks/soak.py --minutes $(or $(MINUTES),15) --swaps $(or $(SWAPS),200)

clean:  ## remove what these targets made
	rm -rf .venv .links build

.venv/.ready: pyproject.toml constraints.txt $(wildcard ops/CMakeLists.txt ops/*.cc ops/*.h wire/native/CMakeLists.txt wire/native/*.cc wire/native/*.h)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "Python 3.11 or newer is needed, $(PYTHON) is older; install one and say PYTHON=python3.x."; exit 1; }
	@command -v "$${CXX:-c++}" >/dev/null || command -v g++ >/dev/null || command -v clang++ >/dev/null || { \
	  echo "A C++17 compiler is needed to build the op library; install one, for example: apt-get install g++"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@echo "Installing into .venv (the first time takes some minutes) ..."
	@$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[training,dev]'
	@mkdir -p .links/estimator_serving
	@for part in $(PARTS); do ln -sfn ../../$$part .links/estimator_serving/$$part; done
	@$(BIN)/python -m compileall -q $(PARTS) tools tests benchmarks  # once, and not in each process that starts together
	@touch $@
