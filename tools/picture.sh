#!/usr/bin/env bash
# Fetches the two files of others that package picture embeds, and refuses them
# if they are not those that were looked at: tools/picture.sh
set -euo pipefail
cd "$(dirname "$0")/../picture"
graphviz=v0.2.9 graphviz_sha256=7cc5b0a5f176aeaa69760ed5dc3282ceda2b1b04229b22de77bb0a5eab45578e
cytoscape=3.34.4 cytoscape_sha256=081591ab735b2b6a3b31a3c60f8f3a3e2fee8c92939e0c7820ad1208571b6cd8
work=$(mktemp -d)
trap 'chmod -R u+w "$work"; rm -rf "$work"' EXIT

# take copies a file if its checksum is the expected one.
take() {
  echo "$3  $1" | sha256sum --check --quiet
  install -m 644 "$1" "$2"
}

module=$(cd "$work" && GOMODCACHE=$work/mod GOFLAGS=-mod=mod go mod download -json "github.com/goccy/go-graphviz@$graphviz" |
  sed -n 's/^\t"Dir": "\(.*\)",$/\1/p')
take "$module/internal/wasm/graphviz.wasm" graphviz/graphviz.wasm "$graphviz_sha256"

(cd "$work" && npm pack --silent "cytoscape@$cytoscape" >/dev/null && tar xzf "cytoscape-$cytoscape.tgz")
take "$work/package/dist/cytoscape.min.js" cytoscape/cytoscape.min.js "$cytoscape_sha256"
install -m 644 "$work/package/LICENSE" cytoscape/LICENSE
