# `make demo` and `make test` do everything on a fresh machine; each installs what it lacks first.
SWIFT ?= swift
BINARY = .build/release/cohort
# With Swift's libraries inside, the binary runs on machines that have no Swift.
STATIC = $(if $(filter Linux,$(shell uname -s)),--static-swift-stdlib)

.PHONY: docs torch help setup build run demo test integration api-check dist dist-check wheel wheel-check python-client docs-test strategy-test browser-test compose-test test-fast bench nightly lint format clean

help: ## what there is
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

setup: ## install what building needs (Debian, Ubuntu), or say what is missing
	@scripts/setup.sh

build: setup ## the optimized `cohort`, in .build/release
	@SWIFT=$(SWIFT) scripts/build.sh $(STATIC)

run: build ## a server on http://127.0.0.1:8080
	$(BINARY) serve

demo: build ## a server and three peers train the penguins, and predict
	$(BINARY) demo --file Examples/penguins.csv --target species

test: ## every test, the ones with real processes included
	@scripts/setup.sh test
	$(SWIFT) build --build-tests $(if $(CI),--explicit-target-dependency-import-check error)
	SWIFT=$(SWIFT) scripts/test.sh

integration: setup ## sessions over a real RabbitMQ, S3 and MongoDB protocol, which it installs and starts
	scripts/integration.sh

torch: ## the PyTorch engine's plugin, for the PyTorch that is found (COHORT_TORCH, the active Python) or installed from PyPI
	@scripts/setup.sh torch
	scripts/torch.sh

api-check: ## the HTTP API against its own description: schemathesis, and a client generated from it
	@scripts/setup.sh api
	scripts/api-check.sh

dist: build ## cohort-VERSION-linux-MACHINE.tar.gz and cohort_VERSION_ARCHITECTURE.deb, in dist/
	@scripts/setup.sh dist
	scripts/dist.sh

wheel: ## the Python wheel with the executable inside, of what `make dist` has made, in dist/
	@scripts/setup.sh python
	scripts/wheel.sh

wheel-check: ## install the wheel into a fresh environment, and train with it
	scripts/wheel-check.sh

dist-check: dist ## what dist made, tried in a Debian 12 that has nothing else
	scripts/dist-check.sh

strategy-test: setup ## a strategy of one's own, in a package outside: tested, and a session by it (Examples/strategy)
	scripts/strategy-test.sh

python-client: ## clients/python: its types, its tests against a real server, its notebook, its wheel
	@scripts/setup.sh python
	scripts/python-client.sh

docs-test: ## the code blocks of README and docs, run; commands and settings in the text, held against the program
	@scripts/setup.sh python
	scripts/docs-test.sh

browser-test: ## the pages, in Chromium: sign up, train with three peers, predict; accessibility; COHORT_SCREENSHOTS=FOLDER keeps pictures
	@scripts/setup.sh browser
	scripts/browser-test.sh

compose-test: ## docker-compose.yml brought up, trained through, killed in part and taken down, in a Docker engine of its own if need be
	scripts/kubernetes-check.sh
	scripts/compose-test.sh

test-fast: setup ## the pure rooms only: seconds
	COHORT_ONLY=CohortCore,CohortWire,CohortSession,CohortStrategies,CohortTraining $(SWIFT) test --scratch-path .build-fast

bench: build ## the numbers of Benchmarks/, as a table and as bench.json
	python3 Benchmarks/bench.py --binary $(BINARY) --out bench.json
	python3 Benchmarks/engine.py --out bench.json

nightly: build ## every script of Benchmarks/ at its smallest size, a line a stage; resumes after a stage
	scripts/nightly.sh

docs: setup ## the library targets' documentation (DocC), under build-docs
	scripts/docs.sh

lint: setup ## formatting, the scripts of the pages, links of the documentation, and the room table of CONTRIBUTING.md, as CI checks them
	@scripts/setup.sh lint
	scripts/pages-check.sh
	python3 scripts/rooms.py --check CONTRIBUTING.md
	python3 scripts/links-check.py
	$(SWIFT) format lint --strict --recursive --parallel Package.swift Sources Tests

format: ## format every Swift file in place
	$(SWIFT) format format --in-place --recursive --parallel Package.swift Sources Tests

clean: ## remove what was built
	rm -rf .build .build-* build-docs dist
