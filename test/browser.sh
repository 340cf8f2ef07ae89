#!/usr/bin/env bash
# Runs the tests of the HTML pages in Debian's Chromium through Playwright. What
# is missing (chromium, nodejs, npm) is installed from Debian, which needs root.
set -euo pipefail
cd "$(dirname "$0")/.."

missing=()
[ -n "${SCONCE_CHROMIUM:-}" ] || command -v chromium >/dev/null || missing+=(chromium)
command -v node >/dev/null || missing+=(nodejs)
command -v npm >/dev/null || missing+=(npm)
if [ ${#missing[@]} -gt 0 ]; then
  as_root=()
  [ "$(id -u)" = 0 ] || as_root=(sudo)
  echo "installing ${missing[*]} for the tests of the pages" >&2
  "${as_root[@]}" apt-get update -qq
  DEBIAN_FRONTEND=noninteractive "${as_root[@]}" apt-get install -y -qq --no-install-recommends "${missing[@]}" >&2
fi
npm ci --no-audit --no-fund --silent --prefix picture/testdata/browser
SCONCE_BROWSER=1 go test -count=1 -run '^TestPage' ./picture
