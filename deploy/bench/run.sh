#!/bin/bash
# The hot paths with their allocations, then the supervisors side by side.
set -euo pipefail
cd "$(dirname "$0")/../.."
export PATH="$PWD/bin:$PATH"
go test -run '^$' -bench . -benchmem ./pkg/internal/... ./pkg/sdnotify ./pkg/worker
go build -o bin/bench ./deploy/bench
exec bin/bench "$@"
