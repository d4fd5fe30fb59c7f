#!/usr/bin/env bash
# A newcomer's day, by README alone: a Debian on ZFS that boots by initramfs-tools and zfs-initramfs gets Taproot beside them, tries
# it, is switched to it, gets a kernel upgrade, is switched back; each step is booted. What stands in README under "From
# initramfs-tools" is what is typed.
#   switch.sh [KIT-SYSTEM [BOOT]]          (debian13-zfs2.4; from which boot on, 1 to 5: those before are there from another run)
# Each boot takes the kernel, the initramfs and the words of the first entry that update-grub wrote, as GRUB would; QEMU loads
# them. Needs `make build kit`, and apt. Result in $KIT_CACHE/switch/NAME: a directory for each boot (console, report, boot/, disk).
#
# Made up are: dkms (dkms-stand-in installs modules that it built before), the package of the newer kernel (Debian's, with another
# release and few modules: kernel-package.sh), small settings of initramfs-tools, GRUB's menu.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
. "$here/lib.sh"
name=${1:-debian13-zfs2.4} first=${2:-1}
[ "$(id -u)" = 0 ] || exec sudo --preserve-env=TAPROOT_KIT,KIT_START,XDG_CACHE_HOME,TAPROOT_ACCEL "$0" "$@"
# The mounts of the tree go with the namespace.
[ "${TAPROOT_IN_NAMESPACE:-}" = yes ] || TAPROOT_IN_NAMESPACE=yes exec unshare --mount --propagation private "$0" "$@"

checkout=$here/../..
tree=$KIT_CACHE/trees/$name
dir=$KIT_CACHE/switch/$name
[ -e "$tree/facts" ] || die "$name: no tree; run: make kit"
[ -x "$checkout/out/taproot" ] || die "out/taproot is missing; run: make build"
. "$tree/facts"
# The next release: its last number but that of the architecture counts up.
[[ $KERNEL =~ ^(.*[^0-9])([0-9]+)(-[^-]+)$ ]] || die "$name: expected a release such as 6.12.9+deb13-amd64, found $KERNEL"
newer=${BASH_REMATCH[1]}$((BASH_REMATCH[2] + 1))${BASH_REMATCH[3]}
mkdir -p "$dir" "$KIT_CACHE/log"
accel=$("$here/accel.sh")

# The commands of README's section: before `hooks enable`, from there to the words "The way back", and behind them.
readme() { # try|switch|back
    awk -v part="$1" '
        /^#/ { inside = /From initramfs-tools/; now = "try" }
        inside && /hooks enable/ { now = "switch" }
        inside && /way back/ { now = "back" }
        inside && now == part && /^    / { sub(/^ +/, ""); print }' "$checkout/README.md"
}
spare=$(readme try | grep -o '/boot/[^ ]*') || true
[ -n "$spare" ] && [ -n "$(readme switch)" ] && [ -n "$(readme back)" ] ||
    die "README.md: expected a section 'From initramfs-tools' with a command for a spare image in /boot, 'taproot hooks enable', and 'The way back' with commands"

# The kit's tree with what a Debian on ZFS boots by.
make_tree() {
    local root=$dir/root dkms=$dir/root/var/lib/kit-dkms suite
    suite=$(. "$tree/root/etc/os-release" && echo "$VERSION_CODENAME")
    rm -rf "$dir"/{upper,work,root}
    mkdir -p "$dir"/{upper,work,root}
    mount -t overlay -o "lowerdir=$tree/root,upperdir=$dir/upper,workdir=$dir/work" overlay "$root"
    mount -t proc proc "$root/proc"
    mount --rbind /dev "$root/dev"
    debian_sources "$suite" >"$root/etc/apt/sources.list"
    cp /etc/resolv.conf "$root/etc/resolv.conf"
    rm -f "$root/etc/initramfs-tools/update-initramfs.conf"
    # Nearly all modules and a thorough compression are the default, which takes an emulated processor a quarter of an hour.
    mkdir -p "$root/etc/initramfs-tools/conf.d"
    printf 'MODULES=list\nCOMPRESS=zstd\nCOMPRESSLEVEL=1\n' >"$root/etc/initramfs-tools/conf.d/kit"
    printf '%s\n' virtio_pci virtio_blk >>"$root/etc/initramfs-tools/modules"
    printf '#!/bin/sh\nexit 101\n' >"$root/usr/sbin/policy-rc.d"
    chmod 755 "$root/usr/sbin/policy-rc.d"
    # zfs-initramfs wants a package that has the modules, and would bring DKMS and a compiler.
    mkdir -p "$root/tmp/modules/DEBIAN" "$root/etc/default"
    printf '%s\n' 'Package: kit-zfs-modules' 'Version: 1' 'Architecture: all' 'Provides: zfs-modules' 'Maintainer: kit' \
        'Description: stands for the modules that the kit made' >"$root/tmp/modules/DEBIAN/control"
    dpkg-deb --build "$root/tmp/modules" "$root/tmp/modules.deb" >/dev/null
    chroot "$root" dpkg -i /tmp/modules.deb >/dev/null
    rm -r "$root/tmp"/modules*
    mkdir "$dkms"
    echo "$KERNEL" >"$dkms/release"
    cp "$root/lib/modules/$KERNEL/updates/dkms"/* "$dkms/"
    find "$dkms" -name '*.xz' -exec xz -d {} +
    install -D -m 755 "$here/dkms-stand-in" "$root/etc/kernel/postinst.d/dkms"
    install -D -m 755 "$here/dkms-stand-in" "$root/etc/kernel/prerm.d/dkms"
    printf '%s\n' 'GRUB_DISTRIBUTOR=Debian' 'GRUB_CMDLINE_LINUX="console=ttyS0 no_timer_check taproot-test.report"' >"$root/etc/default/grub"
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

make_newer_kernel() {
    logged "$KIT_CACHE/log/$name.switch.kernel.log" "$name: a package of the kernel $newer" \
        "$here/kernel-release.sh" "$tree/root" "$KERNEL" "$newer" "$dir/vmlinuz-newer"
    "$here/kernel-package.sh" "$tree/root" "$KERNEL" "$newer" "$dir/newer.deb" "$dir/vmlinuz-newer"
    rm "$dir/vmlinuz-newer"
}

# Runs a machine with the pool's disk until it is off; fails unless its script succeeded.
machine() { # DIRECTORY KERNEL INITRD WORDS [ARGUMENT...]
    local at=$1 kernel=$2 initrd=$3 words=$4 limit=3600
    shift 4
    [ "$accel" = kvm ] && limit=600
    : >"$at/console"
    logged "$at/qemu.log" "$name: ${at##*/}" timeout "$limit" qemu-system-x86_64 -accel "$accel" -m 1536 -smp 2 -nodefaults \
        -display none -no-reboot -kernel "$kernel" -initrd "$initrd" -append "$words" \
        -serial "file:$at/console" -serial "file:$at/report" -fw_cfg "name=opt/taproot/script,file=$at/script" \
        -drive "if=none,id=rpool0,format=qcow2,discard=unmap,cache=unsafe,file=$at/disk.qcow2" \
        -device virtio-blk-pci,drive=rpool0,serial=rpool0 "$@"
    if ! grep -q '^@@SCRIPT-EXIT 0' "$at/report"; then
        tail -n 30 "$at/console" "$at/report" >&2
        die "$name: ${at##*/} failed; console and report are in $at"
    fi
}

# The pool as an installation leaves it, with a second environment that has a dataset where the first has a directory.
install_pool() {
    local at=$dir/0-installed
    rm -rf "$at"
    mkdir "$at"
    truncate -s 4G "$at/disk.img"
    sgdisk --clear --new=1:0:0 --typecode=1:BF01 "$at/disk.img" >/dev/null
    qemu-img convert -q -f raw -O qcow2 "$at/disk.img" "$at/disk.qcow2"
    rm "$at/disk.img"
    cat "$here/pools/lib" - >"$at/script" <<'POOL'
make_pool -o compatibility=grub2 rpool $id-rpool0-part1
zfs create -o canmount=off -o mountpoint=none rpool/ROOT
zfs create -o canmount=noauto -o mountpoint=/ rpool/ROOT/debian
zfs mount rpool/ROOT/debian
cp -a /kit/. /mnt/
zfs create -o mountpoint=/home rpool/home
zfs create -o canmount=noauto -o mountpoint=/ rpool/ROOT/other
zfs create rpool/ROOT/other/srv
zpool set bootfs=rpool/ROOT/debian rpool
zpool export rpool
POOL
    machine "$at" "$dir/vmlinuz" "$tree/helper.cpio" "console=ttyS0 no_timer_check panic=-1 quiet" \
        -drive "if=none,id=system,format=raw,readonly=on,file=$dir/system.squashfs" \
        -device virtio-blk-pci,drive=system,serial=kit-system
}

# What each boot must have come to; `sudo` is not installed, and root types.
expectations() { # RELEASE taproot|initramfs-tools
    cat <<'BEGIN'
set -e
sudo() { "$@"; }
trap 'systemctl --no-block poweroff' EXIT
mounted=$(findmnt -rnt zfs -o SOURCE,TARGET | sort)
test "$(systemctl is-enabled zfs-mount.service)" = enabled
systemctl start zfs-mount.service
systemctl is-active zfs-mount.service
test -z "$(systemctl list-units --failed --plain --no-legend)"
findmnt -no SOURCE /home
BEGIN
    echo "test \"\$(uname -r)\" = '$1'"
    case $2 in
        taproot)
            echo "test -s /run/taproot/boot.json; test ! -e /run/initramfs"
            # Nothing of the other environment; stock Debian mounts its /srv.
            echo "test \"\$mounted\" = 'rpool/ROOT/debian /
rpool/home /home'"
            ;;
        initramfs-tools) echo 'test ! -e /run/taproot; test -d /run/initramfs; test "$(findmnt -no SOURCE /)" = rpool/ROOT/debian' ;;
    esac
}

# Boots by what update-grub wrote in the boot before, or as the installation left it, and types commands (standard input).
boot() { # NAME BOOT-BEFORE RELEASE taproot|initramfs-tools [INITRD]
    local at=$dir/$1 from=$dir/$2 by=$4 kernel=$dir/vmlinuz initrd=$dir/initrd words start=$SECONDS commands
    commands=$(cat)
    [ "${1%%-*}" -ge "$first" ] || return 0
    words="root=ZFS=rpool/ROOT/debian ro console=ttyS0 no_timer_check taproot-test.report"
    rm -rf "$at"
    mkdir -p "$at/boot"
    if [ -e "$from/boot/grub/grub.cfg" ]; then
        read -r kernel initrd words < <(entry "$from/boot/grub/grub.cfg")
        # As written over in GRUB's editor.
        initrd=${5:-$initrd}
        kernel=$from/boot/${kernel##*/boot/} initrd=$from/boot/${initrd##*/boot/}
    fi
    { expectations "$3" "$by"; echo "$commands"; echo 'tar -cf /dev/disk/by-id/virtio-boot -C / boot'; } >"$at/script"
    truncate -s 512M "$at/boot.tar"
    qemu-img create -q -f qcow2 -b "$from/disk.qcow2" -F qcow2 "$at/disk.qcow2"
    machine "$at" "$kernel" "$initrd" "$words" \
        -drive "if=none,id=payload,format=raw,readonly=on,file=$dir/payload.tar" -device virtio-blk-pci,drive=payload,serial=payload \
        -drive "if=none,id=boot,format=raw,cache=unsafe,file=$at/boot.tar" -device virtio-blk-pci,drive=boot,serial=boot
    tar -xf "$at/boot.tar" -C "$at"
    rm "$at/boot.tar"
    say "$name: $1: booted by $by with ${initrd##*/}, init after $(sed -n 's/^@@USERSPACE \(.*\)[0-9]\{6\}\r*$/\1/p' "$at/report") s; $((SECONDS - start)) s in all"
}

# Kernel, initramfs and words of the first entry.
entry() { # grub.cfg
    awk '$1 == "linux" && !kernel { kernel = $2; $1 = $2 = ""; words = $0 }
        $1 == "initrd" && !initrd { initrd = $2 }
        END { print kernel, initrd, words }' "$1"
}

# Whether something was made of the same.
fresh() { [ "$(cat "$dir/$1.stamp" 2>/dev/null)" = "$2" ]; } # WHAT STAMP

stamp=$({ declare -f make_tree install_pool; cat "$tree/stamp" "$here/dkms-stand-in"; } | sha256sum | cut -c1-16)
if ! fresh installed "$stamp"; then
    rm -rf "$dir"/{*.stamp,[0-9]-*}
    first=1
    make_tree
    install_pool
    rm "$dir/system.squashfs"
    echo "$stamp" >"$dir/installed.stamp"
fi
stamp=$(cat "$tree/stamp" "$here"/kernel-*.sh | sha256sum | cut -c1-16)
if ! fresh newer "$stamp"; then
    make_newer_kernel
    echo "$stamp" >"$dir/newer.stamp"
fi
rm -rf "$dir/payload"
make -s -C "$checkout" install DESTDIR="$dir/payload"
install -D -m 644 "$dir/newer.deb" "$dir/payload/upgrade/linux-image.deb"
tar -cf "$dir/payload.tar" -C "$dir/payload" .
rm -rf "$dir/payload"

# The archive is what `make install` made; grub-install made the directory.
{ echo 'mkdir -p /boot/grub; update-grub; tar -xf /dev/disk/by-id/virtio-payload -C / ./usr ./etc'; readme try; } | boot 1-as-installed 0-installed "$KERNEL" initramfs-tools
readme switch | boot 2-tries 1-as-installed "$KERNEL" taproot "$spare"
{
    echo 'taproot status; tar -xf /dev/disk/by-id/virtio-payload -C /var/tmp ./upgrade; dpkg -i /var/tmp/upgrade/linux-image.deb; taproot status; taproot doctor'
} | boot 3-upgrades 2-tries "$KERNEL" taproot
{ echo 'taproot status'; readme back; } | boot 4-switches-back 3-upgrades "$newer" taproot
true | boot 5-as-before 4-switches-back "$newer" initramfs-tools
say "$name: switched to Taproot, upgraded and switched back"
