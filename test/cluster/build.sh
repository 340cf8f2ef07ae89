#!/usr/bin/env bash
# Builds etcd, kube-apiserver, kube-controller-manager and kubectl for tests
# from their Go modules, and prints the folder that they are in. What is built
# is kept by content: a second call takes no time.
#
#   test/cluster/build.sh          build if need be
#   test/cluster/build.sh where    only print the folder
set -euo pipefail
cd "$(dirname "$0")"

key=$({ cat go.mod go.sum build.sh cmd/*/main.go; go env GOVERSION GOOS GOARCH; } | sha256sum | cut -c1-16)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/sconce/controlplane
dir=$cache/$key
programs=(etcd kube-apiserver kube-controller-manager kubectl)

built() {
  for program in "${programs[@]}"; do [ -x "$dir/$program" ] || return 1; done
}

if [ "${1:-}" != where ] && ! built; then
  mkdir -p "$cache"
  exec 9>"$cache/lock"
  flock 9 # one at a time: another call may be building the same
  if ! built; then
    version=$(go list -m -f '{{.Version}}' k8s.io/kubernetes)
    IFS=. read -r major minor _ <<<"${version#v}"
    stamp=k8s.io/component-base/version
    echo "building etcd and Kubernetes $version for tests: about ten minutes the first time" >&2
    new=$(mktemp -d "$cache/new-XXXXXX")
    trap 'rm -rf "$new"' EXIT
    for program in "${programs[@]}"; do
      go build -o "$new/" -ldflags "-s -w -X $stamp.gitVersion=$version -X $stamp.gitMajor=$major \
        -X $stamp.gitMinor=$minor -X $stamp.gitTreeState=clean" "./cmd/$program" 9>&-
      echo "built $program after $SECONDS s" >&2
    done
    rm -rf "$dir"
    mv "$new" "$dir"
  fi
fi
echo "$dir"
