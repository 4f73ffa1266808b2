#!/bin/bash
# test.sh [-test.FLAG...] - the system tests, in one throw-away VM (vm.sh) with a
# real systemd and a real cgroup v2. Without flags all of them, one line each and
# the whole output when one fails; with flags the output as it comes.
#
# The programs are installed there by what `make install` makes. The VM is the
# only one that this ends, and it lives no longer than WORKERSD_VM_TIMEOUT.
#
# Where no VM can be had it says so in a box. That is a success only without root
# or without a network, or with WORKERSD_VM_OPTIONAL=1.
#
# Environment: that of vm.sh; WORKERSD_SOAK=1 makes the long tests long.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

export WORKERSD_VM_TIMEOUT=${WORKERSD_VM_TIMEOUT:-2400}
SUITE=${WORKERSD_VM_SUITE:-trixie}
# Packages with tests that run in the VM and nowhere else.
PACKAGES=(pkg/internal/systemtest)

box() { # each argument is a paragraph
  local rule
  rule=$(printf '%78s' '' | tr ' ' '#')
  printf '%s\n%s\n%s\n' "$rule" "$(printf '%s\n\n' "$@" | fold -s -w 72 | xargs -d '\n' printf '#  %-73s #\n')" "$rule" >&2
}

# network: can this machine reach the archive that the guest is made from?
network() {
  local mirror=${WORKERSD_VM_MIRROR:-$(apt-get --no-release-info indextargets --format '$(REPO_URI)' 2>/dev/null | grep -m1 '/debian/$' || :)}
  timeout 60 /usr/lib/apt/apt-helper download-file "${mirror%/}/dists/$SUITE/InRelease" "$stage/probe" >/dev/null 2>&1
}

# not_here reports what stays untested; its status is that of the whole.
not_here() {
  local why=$1 verdict=0
  if [ -n "${WORKERSD_VM_OPTIONAL:-}" ]; then
    why="$why (WORKERSD_VM_OPTIONAL is set)"
  elif [ "$(id -u)" = 0 ] && network; then
    verdict=1
  fi
  box "NOT TESTED: $why" \
    "There is no VM here, so nothing of this was shown on a real systemd and a real cgroup v2: memory limits and their verdicts, delegation, READY and the watchdog, systemctl reload and stop, journald, no orphan after SIGKILL of the manager, the units, make install, user services." \
    "To test it: make test-vm as root on Debian (amd64), with a network."
  [ $verdict = 0 ] || echo "test.sh: root and a network are here, so this is a failure; WORKERSD_VM_OPTIONAL=1 lets it pass" >&2
  return $verdict
}

# stage_build makes what goes into the guest: root/ is installed over its own
# root, tests/ holds a directory for each package as `go test` would see it.
stage_build() {
  local p
  make -s install DESTDIR="$stage/root" PREFIX=/usr
  mkdir "$stage/tests"
  for p in "${PACKAGES[@]}"; do
    mkdir -p "$stage/tests/$p/bin"
    CGO_ENABLED=0 go test -c -trimpath -o "$stage/tests/$p/vm.test" "./$p"
  done
  p=$stage/tests/pkg/internal/systemtest/bin
  CGO_ENABLED=0 go build -trimpath -o "$p/" ./pkg/internal/systemtest/hog
  # The program with a signal that hangs its loop, which no release has.
  CGO_ENABLED=0 go build -trimpath -tags workersd_hang -o "$p/workersd-hang" ./cmd/workersd
}

# The script of the guest. What it installs is what README.md says under
# "Install as a service".
# shellcheck disable=SC2016
INSIDE='
set -e
tar -C /mnt/work/root -c --owner=0 --group=0 . | tar -C / -x --no-overwrite-dir
mkdir -p /var/lib/workersd-test
tar -C /mnt/work/tests -c --owner=0 --group=0 . | tar -C /var/lib/workersd-test -x
systemctl daemon-reload
[ ! -e /usr/lib/sysusers.d/workersd.conf ] || systemd-sysusers
[ ! -e /usr/lib/tmpfiles.d/workersd.conf ] || systemd-tmpfiles --create workersd.conf
journalctl --update-catalog
uname -r; systemctl --version | head -n 1
rc=0
for p in $PACKAGES; do
  cd "/var/lib/workersd-test/$p"
  ./vm.test "$@" || rc=1
done
exit $rc'

main() {
  local rc limit=$((WORKERSD_VM_TIMEOUT - 60))
  stage=$(mktemp -d /var/tmp/workersd-test.XXXXXX)
  trap 'rm -rf "$stage"' EXIT
  set +e
  deploy/vm/vm.sh build 2>&1 | tee "$stage/why" >&2
  rc=${PIPESTATUS[0]}
  set -e
  if [ $rc = 77 ]; then
    not_here "$(sed -n 's/^vm: //p' "$stage/why" | tail -n 1)"
    return
  fi
  [ $rc = 0 ] || return $rc
  stage_build
  local inside=(env WORKERSD_VM=1 WORKERSD_SOAK="${WORKERSD_SOAK:-}" PACKAGES="${PACKAGES[*]}"
    bash -c "$INSIDE" inside -test.timeout="${limit}s" -test.v)
  if [ $# -gt 0 ]; then
    deploy/vm/vm.sh run "$stage" "${inside[@]}" "$@"
    return
  fi
  set +e
  deploy/vm/vm.sh run "$stage" "${inside[@]}" 2>&1 | tee "$stage/output" |
    grep --line-buffered -E '^(--- |vm: |systemd |[0-9]+\.[0-9]+)'
  rc=${PIPESTATUS[0]}
  set -e
  if [ "$rc" != 0 ]; then
    cat "$stage/output"
    echo "test.sh: failed in the VM ($SUITE, $rc)" >&2
  fi
  return "$rc"
}
main "$@"
