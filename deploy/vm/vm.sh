#!/bin/bash
# vm.sh - commands as root under a real systemd with a real cgroup v2, in a
# throw-away emulated machine that shares nothing with this one's cgroups.
#
#   vm.sh build                  the guest, cached; the first time about a minute
#   vm.sh run  DIR CMD [ARG..]   a new machine; DIR is /mnt/work there (read-write,
#                                live); CMD's output and exit code
#   vm.sh up   DIR               a machine that stays; prints its name
#   vm.sh exec NAME CMD [ARG..]  one more command there (several at a time may run)
#   vm.sh shell NAME             a root shell there (^] leaves; needs socat)
#   vm.sh down NAME              ends that machine, and no other
#
# A machine is not booted but resumed from a state that was saved when it had
# booted: one or two seconds instead of twenty.
#
# Exit code: CMD's own; 124 the machine or CMD took too long; 125 something is
# broken; 77 it cannot be done here, and the last lines say what was not tested.
#
# Environment (WORKERSD_VM_…): SUITE (trixie; bookworm is Debian 12 with systemd
# 252 and kernel 6.1), CACHE, MIRROR, MEMORY (MiB), CPUS, TIMEOUT (seconds that a
# machine may live), QEMU, COLD=1 (boot, do not resume), KEEP=1 (keep the
# machine's directory with console.log and qemu.log), BACKPORTS=1 (may add
# bookworm-backports to this machine's apt, for a QEMU that is faster).
set -euo pipefail

HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
SUITE=${WORKERSD_VM_SUITE:-trixie}
CACHES=${WORKERSD_VM_CACHE:-/var/tmp/workersd-vm}
MEMORY=${WORKERSD_VM_MEMORY:-1536}
CPUS=${WORKERSD_VM_CPUS:-2}
LIFE=${WORKERSD_VM_TIMEOUT:-600}
QEMU=${WORKERSD_VM_QEMU:-qemu-system-x86_64}
# The Debian archive that this machine's own apt uses.
MIRROR=${WORKERSD_VM_MIRROR:-$(apt-get --no-release-info indextargets --format '$(REPO_URI)' 2>/dev/null | grep -m1 '/debian/$' || :)}

say() { echo "vm: $*" >&2; }
die() { say "$*"; exit 125; }
# cannot: this machine is not one where the VM can be had.
cannot() { say "$*"; exit 77; }

. "$HERE/image.sh"
CACHE=$CACHES/$SUITE-$(image_key)

# The state of a booted machine fits one QEMU and one shape of machine.
qemu_facts() {
  local version
  version=$("$QEMU" --version 2>/dev/null | sed -n '1s/.*version \([0-9.]*\).*/\1/p') || :
  [ -n "$version" ] || cannot "no $QEMU here; '$0 build' installs it (as root, on Debian)"
  CPU=max
  # QEMU 7.2 computes wrong flags for cmpxchg16b, and the guest's kernel oopses.
  [ "${version%%.*}" -ge 10 ] || CPU=max,-cx16
  STATE=$CACHE/state-$version-$CPU-$MEMORY-$CPUS
}

build() {
  [ "$(uname -m)" = x86_64 ] || cannot "the guest is amd64, this machine is $(uname -m)"
  if [ -f "$CACHE/root.img" ] && { qemu_facts; [ -f "$STATE" ]; }; then return; fi
  command -v apt-get dpkg-query >/dev/null || cannot "making the guest needs Debian's tools"
  [ "$(id -u)" = 0 ] || cannot "making the guest needs root (once; running it does not)"
  [ -n "$MIRROR" ] || cannot "apt names no Debian archive: set WORKERSD_VM_MIRROR"
  image_install || cannot "packages are missing and apt-get could not install them: $(image_needs | xargs)"
  qemu_facts
  mkdir -p "$CACHES"
  # Two at a time would build the same; the second then finds it done.
  exec 8>"$CACHES/lock"
  flock 8
  if [ ! -f "$CACHE/root.img" ]; then
    local old new
    new=$(mktemp -d "$CACHES/new.XXXXXX")
    say "makes the $SUITE guest in $CACHE"
    if ! image_build "$new"; then
      rm -rf "$new"
      cannot "the guest could not be made from $MIRROR (is there a network?)"
    fi
    for old in "$CACHES/$SUITE"-*; do rm -rf "$old"; done
    mv "$new" "$CACHE"
  fi
  [ -f "$STATE" ] || save_state
  exec 8>&-
}

# Boots once and saves the machine: memory, devices, and the disk as it then is.
save_state() {
  local m
  m=$(machine_start "" "" off)
  trap "machine_stop $m" EXIT
  printf 'migrate "exec:cat > %s"\nquit\n' "$STATE.new" >"$m/monitor.in"
  machine_wait_gone "$m" 180 || die "the machine was not saved"
  trap - EXIT
  machine_stop "$m"
  [ -s "$STATE.new" ] || die "the machine was not saved"
  mv "$STATE.new" "$STATE"
}

# machine_start DIR STATE SNAPSHOT prints the directory of a new machine, which
# is its name. Without STATE it boots.
machine_start() {
  local m in=() line
  m=$(mktemp -d "${TMPDIR:-/tmp}/workersd-vm.XXXXXX")
  mkdir "$m/share"
  mkfifo "$m"/{control,monitor}.{in,out}
  [ -z "$2" ] || in=(-incoming "exec:cat $2")
  timeout -k 5 "$LIFE" "$QEMU" -accel tcg,thread=multi -machine q35 -cpu "$CPU" -m "$MEMORY" -smp "$CPUS" \
    -nodefaults -no-user-config -display none -no-reboot -pidfile "$m/qemu.pid" \
    -kernel "$CACHE/vmlinuz" -initrd "$CACHE/initrd" \
    -append "console=ttyS0 quiet panic=-1 mitigations=off nokaslr nowatchdog rcupdate.rcu_cpu_stall_suppress=1 systemd.show_status=0" \
    -drive "file=$CACHE/root.img,if=none,id=root,format=raw,snapshot=$3" -device virtio-blk-pci,drive=root \
    -chardev "file,id=console,path=$m/console.log" -serial chardev:console \
    -device virtio-serial-pci -chardev "pipe,id=control,path=$m/control" -device virtserialport,chardev=control,name=workersd \
    -chardev "socket,id=tty,path=$m/tty,server=on,wait=off" -device virtconsole,chardev=tty \
    -chardev "pipe,id=monitor,path=$m/monitor" -mon chardev=monitor,mode=readline \
    -virtfs "local,path=$m/share,mount_tag=vm,security_model=none,multidevs=remap" \
    -virtfs "local,path=${1:-$m/share},mount_tag=work,security_model=none,multidevs=remap" \
    "${in[@]}" </dev/null >"$m/qemu.log" 2>&1 3>&- 8>&- &
  echo $! >"$m/pid"
  cat "$m/monitor.out" >/dev/null 2>&1 </dev/null 8>&- & # a pipe that nobody reads fills up
  if [ -z "$2" ]; then
    exec 9<>"$m/control.out"
    if ! read -r -t 240 line <&9; then
      tail -q -n 5 "$m/console.log" "$m/qemu.log" >&2
      machine_stop "$m"
      die "the guest did not boot"
    fi
    exec 9>&-
  fi
  echo "$m"
}

machine_alive() { # a zombie is not alive
  local state
  { read -r _ _ state _ <"/proc/$(cat "$1/pid")/stat"; } 2>/dev/null && [ "$state" != Z ]
}

machine_wait_gone() {
  local i
  for ((i = 0; i < $2 * 10; i++)); do
    machine_alive "$1" || return 0
    sleep 0.1
  done
  return 1
}

# Nothing in the guest outlives a run, so a hard kill is right, and fast.
machine_stop() {
  kill -KILL "$(cat "$1/qemu.pid" 2>/dev/null)" 2>/dev/null || kill "$(cat "$1/pid")" 2>/dev/null || :
  machine_wait_gone "$1" 10 || :
  [ -n "${WORKERSD_VM_KEEP:-}" ] || rm -rf "$1"
}

machine_exec() { # $1 = machine, then the command
  local m=$1 id=$BASHPID$RANDOM waiter output rc
  shift
  [ -p "$m/control.in" ] && machine_alive "$m" || die "no such machine: $m"
  { printf '%q ' "$@"; echo; } >"$m/share/$id.cmd"
  : >"$m/share/$id.out"
  : >"$m/share/$id.err"
  printf 'run %s %s\n' "$id" "$(date +%s)" >"$m/control.in"
  (until [ -e "$m/share/$id.rc" ] || ! machine_alive "$m"; do sleep 0.05; done) &
  waiter=$!
  tail -q -c +1 -s 0.1 --pid=$waiter -f "$m/share/$id.err" >&2 &
  output=$!
  tail -q -c +1 -s 0.1 --pid=$waiter -f "$m/share/$id.out"
  wait $output || :
  rc=$(cat "$m/share/$id.rc" 2>/dev/null) || {
    say "the machine ended before the command did (limit $LIFE s)"
    tail -q -n 5 "$m/console.log" >&2
    rc=124
  }
  rm -f "$m/share/$id".*
  return "$rc"
}

up() {
  local dir state
  dir=$(realpath -e "$1") && [ -d "$dir" ] || die "no such directory: $1"
  [ -f "$CACHE/root.img" ] || die "run '$0 build' first"
  qemu_facts
  state=$STATE
  if [ -n "${WORKERSD_VM_COLD:-}" ]; then
    state=
  elif [ ! -f "$state" ]; then
    state=
    say "no saved machine of this shape: it boots"
  fi
  machine_start "$dir" "$state" on
}

case ${1:-} in
build) build ;;
run)
  [ $# -ge 3 ] || die "usage: run DIR CMD..."
  machine=$(up "$2")
  trap 'machine_stop "$machine"' EXIT
  trap 'exit 130' INT TERM
  shift 2
  machine_exec "$machine" "$@"
  ;;
up) up "${2:?DIR}" ;;
exec)
  machine=${2:?NAME}
  shift 2
  machine_exec "$machine" "$@"
  ;;
shell)
  machine=${2:?NAME}
  printf 'shell %s %s\n' "${TERM:-vt100}" "$(date +%s)" >"$machine/control.in"
  socat -,raw,echo=0,escape=0x1d "UNIX-CONNECT:$machine/tty"
  ;;
down) machine_stop "${2:?NAME}" ;;
*)
  sed -n '2,/^set -/s/^# \{0,1\}//p' "$0"
  exit 125
  ;;
esac
