# The commands of this project. `make` says what they are.

.PHONY: help build test lint generate check bench fuzz

help: ## say what can be made
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/'

build: ## build bin/sconce
	go build -o bin/sconce ./cmd/sconce

test: ## run every test, with the race detector; the mutants without it
	go test -race ./...
	go test ./mutate

lint: ## run the linters
	go vet ./...
	go tool -modfile=tools/lint/go.mod golangci-lint run

generate: ## write what is generated: deep copies, CRDs, schemas, token formats, the catalogue as code, its docs
	go tool -modfile=tools/go.mod controller-gen object crd:maxDescLen=2000 paths=./api/... output:crd:dir=config/crd
	cd tools && go run ./schema ../config/crd ../schema
	cd tools && go run ./tokens ../credential/zz_generated.tokens.go
	go test ./controltest -run "TestDocs|TestBaselineDocs|TestCode" -update

check: generate ## fail if something that is generated is stale
	git diff --exit-code -- api catalog config controltest credential schema docs

bench: ## run the benchmarks
	go test -run '^$$' -bench . -benchmem ./...

fuzz: ## run each fuzz target for half a minute
	./tools/fuzz.sh 30s
