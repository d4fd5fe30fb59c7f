#!/usr/bin/env bash
# A newcomer's day, by README alone: a Debian on ZFS that boots by initramfs-tools and zfs-initramfs is switched to Taproot,
# boots, is switched back, boots. What stands in README under "From initramfs-tools" is what is typed.
#   switch.sh [KIT-SYSTEM]          (debian12-zfs2.1)
# Each boot takes the kernel, the initramfs and the words of the first entry that update-grub wrote, as GRUB would; QEMU loads
# them. Needs `make build kit`. Result in $KIT_CACHE/switch/NAME: a directory for each boot (console, report, boot/).
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
. "$here/lib.sh"
name=${1:-debian12-zfs2.1}
[ "$(id -u)" = 0 ] || exec sudo --preserve-env=TAPROOT_KIT,KIT_START,XDG_CACHE_HOME,TAPROOT_ACCEL "$0" "$@"
# The mounts of the tree go with the namespace.
[ "${TAPROOT_IN_NAMESPACE:-}" = yes ] || TAPROOT_IN_NAMESPACE=yes exec unshare --mount --propagation private "$0" "$@"

checkout=$here/../..
tree=$KIT_CACHE/trees/$name
dir=$KIT_CACHE/switch/$name
[ -e "$tree/facts" ] || die "$name: no tree; run: make kit"
[ -x "$checkout/out/taproot" ] || die "out/taproot is missing; run: make build"
. "$tree/facts"
mkdir -p "$dir" "$KIT_CACHE/log"
accel=$("$here/accel.sh")

# The commands of README's section, before and after the words "The way back".
readme() { # switch|back
    awk -v part="$1" '
        /^#/ { inside = /From initramfs-tools/; now = "switch" }
        inside && /way back/ { now = "back" }
        inside && now == part && /^    / { sub(/^ +/, ""); print }' "$checkout/README.md"
}
[ -n "$(readme switch)" ] && [ -n "$(readme back)" ] ||
    die "README.md: expected a section 'From initramfs-tools' with commands, and 'The way back' with others"

# The kit's tree with what a Debian on ZFS boots by.
make_tree() {
    local root=$dir/root
    rm -rf "$dir"/{upper,work,root}
    mkdir -p "$dir"/{upper,work,root}
    mount -t overlay -o "lowerdir=$tree/root,upperdir=$dir/upper,workdir=$dir/work" overlay "$root"
    mount -t proc proc "$root/proc"
    mount --rbind /dev "$root/dev"
    debian_sources bookworm >"$root/etc/apt/sources.list"
    cp /etc/resolv.conf "$root/etc/resolv.conf"
    rm -f "$root/etc/initramfs-tools/update-initramfs.conf"
    # As Debian has it: the kit's own systems are to have everything mounted without it.
    [ "$(readlink "$root/etc/systemd/system/zfs-mount.service")" != /dev/null ] || rm "$root/etc/systemd/system/zfs-mount.service"
    # Nearly all modules and a thorough compression are the default, which takes an emulated processor a quarter of an hour.
    mkdir -p "$root/etc/initramfs-tools/conf.d"
    printf 'MODULES=list\nCOMPRESS=zstd\nCOMPRESSLEVEL=1\n' >"$root/etc/initramfs-tools/conf.d/kit"
    printf '%s\n' virtio_pci virtio_blk >>"$root/etc/initramfs-tools/modules"
    printf '#!/bin/sh\nexit 101\n' >"$root/usr/sbin/policy-rc.d"
    chmod 755 "$root/usr/sbin/policy-rc.d"
    # The modules are there without a package; zfs-initramfs wants one that has them, and would bring DKMS and a compiler.
    mkdir -p "$root/tmp/modules/DEBIAN" "$root/etc/default"
    printf '%s\n' 'Package: kit-zfs-modules' 'Version: 1' 'Architecture: all' 'Provides: zfs-modules' 'Maintainer: kit' \
        'Description: stands for the modules that the kit made' >"$root/tmp/modules/DEBIAN/control"
    dpkg-deb --build "$root/tmp/modules" "$root/tmp/modules.deb" >/dev/null
    chroot "$root" dpkg -i /tmp/modules.deb >/dev/null
    rm -r "$root/tmp"/modules*
    echo 'GRUB_CMDLINE_LINUX="console=ttyS0 no_timer_check taproot-test.report"' >"$root/etc/default/grub"
    logged "$KIT_CACHE/log/$name.switch.log" "$name: installing initramfs-tools, zfs-initramfs and GRUB's tools" \
        chroot "$root" sh -c 'set -e; export DEBIAN_FRONTEND=noninteractive; apt-get update
            apt-get install -y --no-install-recommends -o Dpkg::Options::=--force-confold initramfs-tools zfs-initramfs grub2-common
            update-initramfs -c -k all; apt-get clean; rm -rf /var/lib/apt/lists/*'
    rm "$root/usr/sbin/policy-rc.d"
    umount -R "$root/dev"
    umount "$root/proc"
    cp "$root/boot/vmlinuz-$KERNEL" "$dir/vmlinuz"
    cp "$root/boot/initrd.img-$KERNEL" "$dir/initrd"
    logged "$KIT_CACHE/log/$name.switch.squashfs.log" "$name: squashfs of that tree" \
        mksquashfs "$root" "$dir/system.squashfs" -noappend -comp zstd -Xcompression-level 3 -no-progress
    umount "$root"
    rm -rf "$dir"/{upper,work,root}
}

# Runs a machine with the pool's disk until it is off; fails unless its script succeeded.
machine() { # DIRECTORY KERNEL INITRD WORDS SCRIPT [ARGUMENT...]
    local at=$1 kernel=$2 initrd=$3 words=$4 script=$5 limit=3600
    shift 5
    [ "$accel" = kvm ] && limit=600
    logged "$at/qemu.log" "$name: ${at##*/}" timeout "$limit" qemu-system-x86_64 -accel "$accel" -m 1536 -smp 2 -nodefaults \
        -display none -no-reboot -kernel "$kernel" -initrd "$initrd" -append "$words" \
        -serial "file:$at/console" -serial "file:$at/report" -fw_cfg "name=opt/taproot/script,file=$script" \
        -drive "if=none,id=rpool0,format=raw,discard=unmap,cache=unsafe,file=$dir/rpool0.img" \
        -device virtio-blk-pci,drive=rpool0,serial=rpool0 "$@"
    if ! grep -q '^@@SCRIPT-EXIT 0' "$at/report"; then
        tail -n 30 "$at/console" "$at/report" >&2
        die "$name: ${at##*/} failed; console and report are in $at"
    fi
}

# The pool as an installation leaves it.
install_pool() {
    local at=$dir/0-installed
    rm -rf "$at" "$dir/rpool0.img"
    mkdir "$at"
    truncate -s 4G "$dir/rpool0.img"
    sgdisk --clear --new=1:0:0 --typecode=1:BF01 "$dir/rpool0.img" >/dev/null
    cat "$here/pools/lib" - >"$at/script" <<'END'
make_pool -o compatibility=grub2 rpool $id-rpool0-part1
zfs create -o canmount=off -o mountpoint=none rpool/ROOT
zfs create -o canmount=noauto -o mountpoint=/ rpool/ROOT/debian
zfs mount rpool/ROOT/debian
cp -a /kit/. /mnt/
zfs create -o mountpoint=/home rpool/home
zpool set bootfs=rpool/ROOT/debian rpool
zpool export rpool
END
    machine "$at" "$dir/vmlinuz" "$tree/helper.cpio" "console=ttyS0 no_timer_check panic=-1 quiet" "$at/script" \
        -drive "if=none,id=system,format=raw,readonly=on,file=$dir/system.squashfs" \
        -device virtio-blk-pci,drive=system,serial=kit-system
}

# Boots by what update-grub wrote in the boot before, or as the installation left it, and types commands (standard input).
boot() { # NAME BOOT-BEFORE taproot|initramfs-tools
    local at=$dir/$1 from=$dir/$2 by=$3 kernel=$dir/vmlinuz initrd=$dir/initrd words
    words="root=ZFS=rpool/ROOT/debian ro console=ttyS0 no_timer_check taproot-test.report"
    rm -rf "$at"
    mkdir -p "$at/boot"
    if [ -e "$from/boot/grub/grub.cfg" ]; then
        read -r kernel initrd words < <(entry "$from/boot/grub/grub.cfg")
        kernel=$from/boot/${kernel##*/boot/} initrd=$from/boot/${initrd##*/boot/}
    fi
    {
        echo 'set -e; sudo() { "$@"; }; trap "systemctl --no-block poweroff" EXIT'
        case $by in
            taproot) echo 'test -s /run/taproot/boot.json' ;;
            initramfs-tools) echo 'test ! -e /run/taproot; test -d /run/initramfs' ;;
        esac
        echo "test \"\$(findmnt -no SOURCE /)\" = rpool/ROOT/debian; findmnt -no SOURCE /home"
        cat
        echo 'tar -cf /dev/disk/by-id/virtio-boot -C / boot'
    } >"$at/script"
    truncate -s 512M "$at/boot.tar"
    machine "$at" "$kernel" "$initrd" "$words" "$at/script" \
        -drive "if=none,id=payload,format=raw,readonly=on,file=$dir/payload.tar" -device virtio-blk-pci,drive=payload,serial=payload \
        -drive "if=none,id=boot,format=raw,cache=unsafe,file=$at/boot.tar" -device virtio-blk-pci,drive=boot,serial=boot
    tar -xf "$at/boot.tar" -C "$at"
    rm "$at/boot.tar"
    say "$name: $1: booted by $by with ${initrd##*/}"
}

# Kernel, initramfs and words of the first entry.
entry() { # grub.cfg
    awk '$1 == "linux" && !kernel { kernel = $2; $1 = $2 = ""; words = $0 }
        $1 == "initrd" && !initrd { initrd = $2 }
        END { print kernel, initrd, words }' "$1"
}

stamp=$(cat "$here/switch.sh" "$tree/stamp" | sha256sum | cut -c1-16)
if [ "$(cat "$dir/stamp" 2>/dev/null)" != "$stamp" ]; then
    rm -f "$dir/stamp"
    make_tree
    echo "$stamp" >"$dir/stamp"
fi
rm -rf "$dir/payload"
make -s -C "$checkout" install DESTDIR="$dir/payload"
tar -cf "$dir/payload.tar" -C "$dir/payload" usr
rm -rf "$dir/payload"

install_pool
{ echo update-grub; } | boot 1-as-installed 0-installed initramfs-tools
# The archive is what `make install` made.
{ echo 'tar -xf /dev/disk/by-id/virtio-payload -C /'; readme switch; } | boot 2-switches 1-as-installed initramfs-tools
readme back | boot 3-switches-back 2-switches taproot
true | boot 4-as-before 3-switches-back initramfs-tools
say "$name: switched to Taproot and back"
