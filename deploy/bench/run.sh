#!/bin/bash
# run.sh [FLAG..] - the hot paths with their allocations, then the supervisors
# side by side: here, and in the VM with systemd and a cgroup for each worker,
# where there are fewer workers, lines and rounds because an emulated machine is
# slow. Flags are those of bin/bench, for both.
#
# Environment: WORKERSD_BENCH_README=1 puts the tables into README.md;
# WORKERSD_BENCH=native or guest does one of the two only.
set -euo pipefail
cd "$(dirname "$0")/../.."
export PATH="$PWD/bin:$PATH"
export WORKERSD_VM_TIMEOUT=${WORKERSD_VM_TIMEOUT:-7200} WORKERSD_VM_MEMORY=${WORKERSD_VM_MEMORY:-6144}
what=${WORKERSD_BENCH:-all}
go build -o bin/bench ./deploy/bench

publish() {
  if [ -n "${WORKERSD_BENCH_README:-}" ]; then bin/bench insert README.md "$1"; else cat; fi
}

if [ "$what" != guest ]; then
  [ "$what" != all ] || go test -run '^$' -bench . -benchmem ./pkg/internal/... ./pkg/sdnotify ./pkg/worker
  bin/bench "$@" | publish native
fi
if [ "$what" != native ]; then
  deploy/vm/vm.sh build || { echo "run.sh: no VM here, so nothing was measured with cgroups" >&2; exit 0; }
  stage=$(mktemp -d /var/tmp/workersd-bench.XXXXXX)
  trap 'rm -rf "$stage"' EXIT
  make -s install DESTDIR="$stage/root" PREFIX=/usr
  CGO_ENABLED=0 go build -trimpath -o "$stage/bench" ./deploy/bench
  # shellcheck disable=SC2016
  deploy/vm/vm.sh run "$stage" bash -ec '
    tar -C /mnt/work/root -c --owner=0 --group=0 . | tar -C / -x --no-overwrite-dir
    systemctl daemon-reload
    cp /mnt/work/bench /usr/bin/workersd-bench
    exec workersd-bench -guest -large 1000 -lines 100000 -rounds 1 "$@"' bench "$@" | publish guest
fi
