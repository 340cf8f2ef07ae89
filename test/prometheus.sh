#!/usr/bin/env bash
# Finds prometheus and promtool for tests, and prints the folder that they are
# in: those that are installed, or Debian's package, unpacked in the cache
# without being installed. Debian and its derivatives only.
#
#   test/prometheus.sh          fetch if need be
#   test/prometheus.sh where    only print the folder
set -euo pipefail

if installed=$(command -v prometheus) && command -v promtool >/dev/null; then
  dirname "$installed"
  exit
fi
cache=${XDG_CACHE_HOME:-$HOME/.cache}/sconce/prometheus
dir=$cache/usr/bin

if [ "${1:-}" != where ] && ! [ -x "$dir/promtool" ]; then
  mkdir -p "$(dirname "$cache")"
  exec 9>"$cache.lock"
  flock 9 # one at a time: another call may be fetching the same
  if ! [ -x "$dir/promtool" ]; then
    new=$(mktemp -d "$cache-XXXXXX")
    trap 'rm -rf "$new"' EXIT
    cd "$new"
    options=(-qq -o APT::Sandbox::User=root)
    if ! apt-get "${options[@]}" download prometheus >&2; then
      # The system has no list of packages: fetch one of our own, which needs no root.
      mkdir -p state/lists/partial cache/archives/partial
      options+=(-o "Dir::State::lists=$new/state/lists" -o "Dir::Cache=$new/cache")
      apt-get "${options[@]}" update >&2
      apt-get "${options[@]}" download prometheus >&2
    fi
    dpkg -x prometheus_*.deb root
    rm -rf "$cache"
    mv root "$cache"
  fi
fi
echo "$dir"
