# Every target works on a fresh Debian machine: `deps` installs the packages that are missing.
SHELL := /bin/bash
PRESET ?= release
JOBS ?= $(shell nproc)
BUILD := build/$(PRESET)

.PHONY: run build test diff scale drill lint bench soak mutants fuzz clean deps format

run: build
	scripts/run-local-cluster.sh

deps:
	scripts/install-deps.sh

$(BUILD)/build.ninja: deps
	cmake --preset $(PRESET)

build: $(BUILD)/build.ninja
	cmake --build $(BUILD) -j $(JOBS)

test: build
	scripts/install-deps.sh test
	ctest --test-dir $(BUILD) --output-on-failure -j 2

# Random programs on kvd and on a real etcd, side by side: make diff OPS=1000000
diff: build
	scripts/install-deps.sh test
	DIFF_OPERATIONS=$(or $(OPS),50000) /usr/bin/python3 tests/conformance/diff.py --bin-dir $(BUILD)/bin

# 100,000 watchers, a reader that stops, a list of a gigabyte, a million leases: figures, about a quarter of an hour
scale: build
	scripts/install-deps.sh test
	/usr/bin/python3 tests/conformance/scale.py --full --bin-dir $(BUILD)/bin

# Members killed, paused, cut off, filled up, without power: about 10 minutes. make drill DRILLS="kill network" SEED=7
drill: build
	scripts/install-deps.sh test
	/usr/bin/python3 tests/drill/drill.py --bin-dir $(BUILD)/bin $(if $(SEED),--seed $(SEED)) $(DRILLS)

lint: $(BUILD)/build.ninja
	scripts/lint.sh $(BUILD)

format:
	scripts/lint.sh --fix

# Beside a real etcd: a selection of about ten minutes, or everything: make bench FULL=1
bench: build
	scripts/install-deps.sh test
	/usr/bin/python3 bench/cluster/run.py $(if $(FULL),--full)

soak: build
	tests/sim/soak.sh $(BUILD)/bin $(SEEDS) $(FIRST)

mutants: deps
	tests/sim/mutants.sh

# TIME: seconds for each fuzzer
fuzz:
	tests/fuzz/run.sh

clean:
	rm -rf build
