# Sourced by vm.sh: makes the guest's disk, kernel and initramfs in $CACHE.

# Beside a minimal Debian: what the guest boots with, and what user services need.
GUEST_PACKAGES=systemd,systemd-sysv,dbus,kmod,procps,busybox-static,linux-image-amd64,tiny-initramfs,libpam-systemd,dbus-user-session
# The disk and the shares; there is no udev to load anything later.
BOOT_MODULES="virtio_pci virtio_blk virtio_console ext4 9p 9pnet_virtio"

# image_key names everything the image is made of: another key, another image.
image_key() {
  { cat "$HERE/image.sh" "$HERE"/guest/*; echo "$SUITE $GUEST_PACKAGES"; } | sha256sum | cut -c1-16
}

# image_needs prints the packages that are missing on this machine.
image_needs() {
  local p
  for p in mmdebstrap mount e2fsprogs cpio xz-utils qemu-system-x86; do
    dpkg-query -W -f '${Status}' "$p" 2>/dev/null | grep -q 'ok installed' || echo "$p"
  done
}

# image_install installs them. QEMU 10 forks and execs about three times faster
# than 7.2 of Debian 12, but it comes from backports, and a package source is
# added only when WORKERSD_VM_BACKPORTS=1 asks for it.
image_install() {
  local need=() release=()
  mapfile -t need < <(image_needs)
  . /etc/os-release
  if [ "${WORKERSD_VM_BACKPORTS:-}" = 1 ] && [ "${VERSION_CODENAME:-}" = bookworm ] &&
    dpkg --compare-versions "$(dpkg-query -W -f '${Version}' qemu-system-x86 2>/dev/null || echo 0)" lt 1:10; then
    local list=/etc/apt/sources.list.d/workersd-vm-backports.list
    say "adds $list, because WORKERSD_VM_BACKPORTS=1"
    echo "deb $MIRROR bookworm-backports main" >"$list"
    release=(-t bookworm-backports)
    [[ " ${need[*]} " == *" qemu-system-x86 "* ]] || need+=(qemu-system-x86)
  fi
  [ ${#need[@]} -gt 0 ] || return 0
  say "installs ${need[*]} with apt-get"
  apt-get update -qq &&
    DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends "${release[@]}" "${need[@]}" </dev/null >&2
}

# image_build makes $1/root.img, $1/vmlinuz and $1/initrd.
image_build() {
  local out=$1 tree=$1/tree version
  mmdebstrap --quiet --mode=root --variant=minbase --format=directory --include="$GUEST_PACKAGES" \
    --aptopt='APT::Install-Recommends "false"' --dpkgopt='path-exclude=/usr/share/man/*' \
    --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
    "$SUITE" "$tree" "deb $MIRROR $SUITE main" || return
  version=$(basename "$tree"/usr/lib/modules/* 2>/dev/null) && [ -d "$tree/usr/lib/modules/$version" ] ||
    version=$(basename "$tree"/lib/modules/*)
  cp "$tree/boot/vmlinuz-$version" "$out/vmlinuz"
  image_initrd "$tree" "$version" "$out"
  # Of the kernel's modules the tests need next to none.
  find "$tree"/lib/modules/ -name '*.ko*' | grep -vE '/(loop|overlay|dummy|veth|tun|autofs4)\.ko' | xargs rm -f
  chroot "$tree" /sbin/depmod "$version" 2>/dev/null
  rm -rf "$tree"/boot/* "$tree"/var/lib/apt/lists/*
  image_guest "$tree"
  mke2fs -q -t ext4 -O ^has_journal -d "$tree" "$out/root.img" 700M
  rm -rf "$tree"
}

image_initrd() { # $1 = tree, $2 = kernel version, $3 = where to
  local dir=$3/initramfs module file name
  mkdir -p "$dir"/{bin,dev,root,mods}
  cp "$1/bin/busybox" "$dir/bin/"
  install -m 0755 "$HERE/guest/init" "$dir/init"
  : >"$dir/mods/list"
  for module in $BOOT_MODULES; do
    for file in $(chroot "$1" /sbin/modprobe -S "$2" --show-depends "$module" | awk '$1=="insmod"{print $2}'); do
      name=$(basename "${file%.xz}")
      grep -qx "$name" "$dir/mods/list" && continue
      if [ "$file" = "${file%.xz}" ]; then cp "$1$file" "$dir/mods/$name"; else xz -dc "$1$file" >"$dir/mods/$name"; fi
      echo "$name" >>"$dir/mods/list"
    done
  done
  (cd "$dir" && find . | cpio -o -H newc --quiet | gzip -1) >"$3/initrd"
  rm -rf "$dir"
}

image_guest() { # $1 = tree: what makes a Debian this guest
  local r=$1 unit
  echo workersd >"$r/etc/hostname"
  printf '127.0.0.1 localhost workersd\n' >"$r/etc/hosts"
  : >"$r/etc/fstab"
  echo 0123456789abcdef0123456789abcdef >"$r/etc/machine-id"
  ln -sfn /usr/lib/systemd/system/multi-user.target "$r/etc/systemd/system/default.target"
  # Slow when emulated, and nothing that the tests are about.
  while read -r unit; do ln -sfn /dev/null "$r/etc/systemd/system/$unit"; done <"$HERE/guest/masked"
  mkdir -p "$r"/etc/systemd/{journald.conf.d,system/multi-user.target.wants} "$r"/mnt/{work,vm}
  printf '[Journal]\nStorage=volatile\nRuntimeMaxUse=256M\n' >"$r/etc/systemd/journald.conf.d/vm.conf"
  touch "$r/etc/.updated" "$r/var/.updated"
  install -m 0755 "$HERE/guest/agent" "$r/usr/local/sbin/vm-agent"
  install -m 0644 "$HERE/guest/agent.service" "$r/etc/systemd/system/vm-agent.service"
  ln -sfn ../vm-agent.service "$r/etc/systemd/system/multi-user.target.wants/vm-agent.service"
}
