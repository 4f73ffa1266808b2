#!/bin/bash
# What the tests need beyond Go: as root on Debian it is installed, elsewhere it
# is named. A missing program fails its own test, which says so again.
set -euo pipefail

# program → Debian package
declare -A need=(
  [redis-server]=redis-server       # pkg/redisqueue, the Redis examples
  [redis-cli]=redis-tools           # the Redis examples, as a person tries them
  [python3]=python3                 # deploy/examples/listen.py
  [systemd-notify]=systemd          # deploy/examples/listen.sh
  [node]=nodejs                     # deploy/examples/listen.js
  [setpriv]=util-linux              # tests that give up root
  [git]=git
)
missing=()
for p in "${!need[@]}"; do
  command -v "$p" >/dev/null || missing+=("${need[$p]}")
done
# The Debian package belongs to Debian's own python3, whichever comes first in PATH.
/usr/bin/python3 -c 'import systemd.daemon' 2>/dev/null || missing+=(python3-systemd)

[ ${#missing[@]} -gt 0 ] || exit 0
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
  echo "tests need: ${missing[*]}; installing with apt-get"
  apt-get update -qq
  # Their services are not wanted: the tests start what they need by themselves.
  DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends "${missing[@]}" </dev/null
else
  echo "tests need packages that are not installed: ${missing[*]}" >&2
  echo "install them (Debian: sudo apt-get install ${missing[*]}); tests that need them will fail" >&2
fi
