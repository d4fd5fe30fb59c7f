#!/usr/bin/env bash
# Builds one kit system: a Debian tree with kernel, the matching OpenZFS modules (DKMS, built inside the tree) and systemd.
#   tree.sh debian13-zfs2.4      Debian 13, kernel 6.12, OpenZFS from backports
#   tree.sh debian12-zfs2.3      Debian 12, kernel and OpenZFS from backports
#   tree.sh debian12-zfs2.1      Debian 12, kernel 6.1, OpenZFS 2.1
# Result in $KIT_CACHE/trees/NAME: root/ (the tree), system.squashfs (the same, for VMs), facts (KERNEL=, ZFS=), stamp.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
. "$here/lib.sh"

name=${1:?usage: tree.sh KIT-SYSTEM}
[ "$(id -u)" = 0 ] || exec sudo --preserve-env=TAPROOT_KIT,KIT_START,XDG_CACHE_HOME "$0" "$@"
dir=$KIT_CACHE/trees/$name
stamp=$(cat "$here/tree.sh" "$here/guest/"* | sha256sum | cut -c1-16)
if [ "$(cat "$dir/stamp" 2>/dev/null)" = "$stamp" ]; then
    say "$name: ready (cached)"
    exit 0
fi

base=systemd-sysv,udev,kmod,dbus,login,passwd,procps,util-linux,iproute2,zstd,xz-utils,busybox-static,less,zfsutils-linux
build=linux-image-amd64,linux-headers-amd64,zfs-dkms
zfs_packages="zfs* libzfs* libnvpair* libuutil* libzpool*"
case $name in
    # e2fsprogs is not essential any more, but every Debian is installed with it.
    debian13-zfs2.4) suite=trixie pin=trixie-backports pinned=$zfs_packages base+=,e2fsprogs ;;
    debian12-zfs2.3) suite=bookworm pin=bookworm-backports pinned="linux-* $zfs_packages" ;;
    debian12-zfs2.1) suite=bookworm pin= ;;
    *) die "unknown kit system '$name'; expected debian13-zfs2.4, debian12-zfs2.3 or debian12-zfs2.1" ;;
esac

mkdir -p "$dir" "$KIT_CACHE/log"
log=$KIT_CACHE/log/$name
rm -f "$dir/stamp" "$dir/system.squashfs"

# The package set only: it does not change when the guest files do, so it has its own stamp and is not built twice.
packages_stamp=$(echo "$base $build $pin 1" | sha256sum | cut -c1-16)
if [ "$(cat "$dir/packages.stamp" 2>/dev/null)" != "$packages_stamp" ]; then
    if [ "$(cat "$dir/built.stamp" 2>/dev/null)" != "$packages_stamp" ]; then
        rm -rf "$dir/root" "$dir/root.new" "$dir/root.built" "$dir/updates.keep"
        debian_sources "$suite" >"$dir/sources.list"
        hooks=(--essential-hook='mkdir -p "$1/etc/initramfs-tools" && echo "update_initramfs=no" >"$1/etc/initramfs-tools/update-initramfs.conf"')
        if [ -n "$pin" ]; then
            hooks+=(--setup-hook='mkdir -p "$1/etc/apt/preferences.d" && printf "Package: %s\nPin: release n=%s\nPin-Priority: 600\n" "'"$pinned"'" '"$pin"' >"$1/etc/apt/preferences.d/kit"')
        fi
        logged "$log.packages.log" "$name: packages and DKMS build (about 7 minutes)" \
            env DEBIAN_FRONTEND=noninteractive mmdebstrap --mode=root --variant=minbase --include="$base,$build" \
            --dpkgopt=force-confold --aptopt='Acquire::Retries "3"' "${hooks[@]}" "$suite" "$dir/root.new" "$dir/sources.list"
        mv "$dir/root.new" "$dir/root.built"
        echo "$packages_stamp" >"$dir/built.stamp"
    fi
    # The compiler, headers and DKMS go again: a system as it is installed, and less to copy into every pool.
    # DKMS removes its modules with it, so they wait outside; a run that was cut off here goes on here.
    if [ ! -e "$dir/updates.keep.done" ]; then
        updates=$(ls -d "$dir"/root.built/lib/modules/*/updates) || die "$name: DKMS left no modules; see $log.packages.log"
        rm -rf "$dir/updates.keep"
        cp -a "$updates" "$dir/updates.keep"
        basename "$(dirname "$updates")" >"$dir/updates.keep.done"
    fi
    kernel=$(cat "$dir/updates.keep.done")
    logged "$log.purge.log" "$name: removing the build packages" \
        chroot "$dir/root.built" sh -c 'export DEBIAN_FRONTEND=noninteractive; apt-get purge -y --autoremove zfs-dkms make $(dpkg-query -W -f "\${Package} " "linux-headers-*" "linux-compiler-*" 2>/dev/null) && apt-get clean && rm -rf /var/lib/apt/lists/* /var/lib/dkms /usr/src/* /boot/initrd.img*'
    rm -rf "$dir/root.built/lib/modules/$kernel/updates" "$dir/root"
    mv "$dir/root.built" "$dir/root"
    mv "$dir/updates.keep" "$dir/root/lib/modules/$kernel/updates"
    chroot "$dir/root" depmod "$kernel"
    rm -f "$dir/built.stamp" "$dir/updates.keep.done"
    echo "$packages_stamp" >"$dir/packages.stamp"
fi

root=$dir/root
kernel=$(basename "$(dirname "$(dirname "$(ls -d "$root"/lib/modules/*/updates/dkms | head -n 1)")")")
[ -e "$root/lib/modules/$kernel/modules.dep" ] || die "$name: no modules.dep for $kernel"
zfs=$(chroot "$root" modinfo -k "$kernel" -F version zfs)

# What makes the tree a test machine: a login on the serial line, a report unit, a fixed hostid.
echo kit >"$root/etc/hostname"
printf '127.0.0.1 localhost\n127.0.1.1 kit\n' >"$root/etc/hosts"
printf '\x78\x56\x34\x12' >"$root/etc/hostid"
: >"$root/etc/machine-id"
chroot "$root" passwd -d root >/dev/null
install -D -m 755 "$here/guest/taproot-report" "$root/usr/local/sbin/taproot-report"
install -D -m 644 "$here/guest/taproot-report.service" "$root/etc/systemd/system/taproot-report.service"
mkdir -p "$root/etc/systemd/system/multi-user.target.wants"
ln -sf ../taproot-report.service "$root/etc/systemd/system/multi-user.target.wants/taproot-report.service"
install -D -m 755 "$here/guest/taproot-early-mounts" "$root/etc/systemd/system-generators/taproot-early-mounts"
# Enabled, as in every installed system; trees from before masked it.
rm -f "$root/etc/systemd/system/zfs-mount.service"
# Timers and housekeeping that only cost time under emulation.
for unit in apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer fstrim.timer e2scrub_all.timer e2scrub_reap.service systemd-pcrphase.service systemd-pcrphase-sysinit.service; do
    ln -sf /dev/null "$root/etc/systemd/system/$unit"
done

printf 'KERNEL=%s\nZFS=%s\n' "$kernel" "$zfs" >"$dir/facts"
logged "$log.squashfs.log" "$name: squashfs of the tree" \
    mksquashfs "$root" "$dir/system.squashfs.new" -noappend -comp zstd -Xcompression-level 3 -one-file-system -no-progress
mv "$dir/system.squashfs.new" "$dir/system.squashfs"
sync -f "$dir"
echo "$stamp" >"$dir/stamp"
say "$name: ready, kernel $kernel, OpenZFS $zfs, $(du -sh "$root" | cut -f1)"
