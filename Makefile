# The commands of this project. `make` says what they are.

.PHONY: help build test e2e browser demo controlplane lint generate check bench fuzz

help: ## say what can be made
	@grep -hE '^[a-z0-9]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/'

build: ## build bin/sconce
	go build -o bin/sconce ./cmd/sconce

test: ## run every test but e2e, with the race detector; the mutants without it
	go test -race ./...
	go test ./mutate

e2e: controlplane ## run the tests against a real control plane, which is built once
	SCONCE_E2E=1 go test -count=1 -timeout 40m ./test/e2e/...

browser: ## run the tests of the HTML pages in Chromium, which is installed if it is missing
	./test/browser.sh

demo: controlplane ## show a denied pod, an audit finding and a drift on a real control plane
	SCONCE_E2E=1 go test -count=1 -v -run '^TestDemo$$' ./test/e2e

controlplane: ## build the control plane for tests and fetch Prometheus; ten minutes the first time
	./test/cluster/build.sh
	./test/prometheus.sh

lint: ## run the linters
	go vet ./...
	go tool -modfile=tools/lint/go.mod golangci-lint run

generate: ## write what is generated: deep copies, CRDs, schemas, token formats, the catalogue as code, its docs
	go tool -modfile=tools/go.mod controller-gen object crd:maxDescLen=2000 paths=./api/... output:crd:dir=config/crd
	cd tools && go run ./schema ../config/crd ../schema
	cd tools && go run ./tokens ../credential/zz_generated.tokens.go
	go test ./controltest -run "TestDocs|TestBaselineDocs|TestCode" -update
	go test ./report/openreports ./config/install -update

check: generate ## fail if something that is generated is stale
	git diff --exit-code -- api catalog charts config controltest credential schema docs

bench: ## run the benchmarks
	go test -run '^$$' -bench . -benchmem ./...

fuzz: ## run each fuzz target for half a minute
	./tools/fuzz.sh 30s
