#!/usr/bin/env bash
# Installs what the kit and the tests run on this machine: QEMU, mmdebstrap, squashfs-tools and friends.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
. "$here/lib.sh"

commands=(mmdebstrap:mmdebstrap pacman:pacman-package-manager makepkg:makepkg pacstrap:arch-install-scripts bsdtar:libarchive-tools fakeroot:fakeroot
    setfattr:attr setfacl:acl sgdisk:gdisk mksquashfs:squashfs-tools cpio:cpio zstd:zstd xz:xz-utils lz4:lz4 file:file
    strings:binutils strace:strace gcc:gcc g++:g++ busybox:busybox-static mkfs.ext4:e2fsprogs mkfs.xfs:xfsprogs mkfs.btrfs:btrfs-progs
    sload.f2fs:f2fs-tools mkfs.vfat:dosfstools mcopy:mtools mkfs.erofs:erofs-utils xorriso:xorriso
    grub-mkimage:grub-common grub-fstest:grub-common sbsign:sbsigntool openssl:openssl setpriv:util-linux)
missing=()
for pair in "${commands[@]}"; do
    command -v "${pair%%:*}" >/dev/null || missing+=("${pair##*:}")
done
# Debian 12 has had Debian 13's keys since its eleventh update.
[ -e /usr/share/keyrings/debian-archive-trixie-stable.gpg ] || missing+=(debian-archive-keyring)
[ -e /usr/lib/x86_64-linux-gnu/libc.a ] || missing+=(libc6-dev)
# Boot loaders of disk images.
[ -e /usr/lib/grub/i386-pc/boot.img ] || missing+=(grub-pc-bin)
[ -e /usr/lib/systemd/boot/efi/systemd-bootx64.efi ] || missing+=(systemd-boot-efi)
# UEFI firmware: tests/src/vm/firmware.rs knows both names.
[ -e /usr/share/OVMF/OVMF_CODE_4M.fd ] || [ -e /usr/share/OVMF/OVMF_CODE.fd ] || missing+=(ovmf)

have_qemu() { command -v qemu-system-x86_64 >/dev/null && command -v qemu-img >/dev/null; }

if [ ${#missing[@]} -eq 0 ] && have_qemu; then
    exit 0
fi
[ "$(id -u)" = 0 ] || exec sudo --preserve-env=TAPROOT_KIT,KIT_START,XDG_CACHE_HOME "$0" "$@"
export DEBIAN_FRONTEND=noninteractive
mkdir -p "$KIT_CACHE/log"
logged "$KIT_CACHE/log/apt-update.log" "apt-get update" apt-get update
if [ ${#missing[@]} -gt 0 ]; then
    logged "$KIT_CACHE/log/apt-host.log" "installing ${missing[*]}" apt-get install -y --no-install-recommends "${missing[@]}"
fi
if ! have_qemu; then
    # Where QEMU's tools already come from backports apt refuses to mix in the stable emulator: use backports through a
    # private list then, so that the machine's own sources stay as they are.
    if ! apt-get install -y --no-remove --no-install-recommends qemu-system-x86 qemu-utils >"$KIT_CACHE/log/apt-qemu.log" 2>&1; then
        private=$KIT_CACHE/apt-host
        mkdir -p "$private/lists/partial"
        suite=$(. /etc/os-release && echo "$VERSION_CODENAME")
        debian_sources "$suite" >"$private/sources.list"
        opts=(-o "Dir::Etc::sourcelist=$private/sources.list" -o Dir::Etc::sourceparts=- -o "Dir::State::lists=$private/lists")
        logged "$KIT_CACHE/log/apt-qemu.log" "apt-get update for backports" apt-get "${opts[@]}" update
        logged "$KIT_CACHE/log/apt-qemu.log" "installing qemu-system-x86 from backports" \
            apt-get "${opts[@]}" install -y --no-install-recommends -t "$suite-backports" qemu-system-x86 qemu-utils
    fi
fi
say "host packages ready"
