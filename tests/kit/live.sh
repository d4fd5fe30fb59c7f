#!/usr/bin/env bash
# Makes the initramfs images that live systems are booted by elsewhere, of a kit system and its kernel, for `bench layers`:
# live/NAME/live-boot.img by Debian's live-boot and initramfs-tools, live/NAME/dracut.img by dracut's dmsquash-live. Both as their
# packages make them for a medium that boots anywhere. Installs into a copy of the kit's tree, by apt.
#   live.sh [KIT-SYSTEM]          (debian13-zfs2.4)
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
. "$here/lib.sh"
name=${1:-debian13-zfs2.4}
[ "$(id -u)" = 0 ] || exec sudo --preserve-env=TAPROOT_KIT,KIT_START,XDG_CACHE_HOME "$0" "$@"
# The mounts of the tree go with the namespace.
[ "${TAPROOT_IN_NAMESPACE:-}" = yes ] || TAPROOT_IN_NAMESPACE=yes exec unshare --mount --propagation private "$0" "$@"

tree=$KIT_CACHE/trees/$name
dir=$KIT_CACHE/live/$name
[ -e "$tree/facts" ] || die "$name: no tree; run: make kit"
. "$tree/facts"
stamp=$(cat "$here/live.sh" "$tree/stamp" | sha256sum | cut -c1-16)
[ "$(cat "$dir/stamp" 2>/dev/null)" != "$stamp" ] || exit 0
rm -rf "$dir"
mkdir -p "$dir" "$KIT_CACHE/log"

# The kit's tree with other packages on top of it, and the image that they make.
made() { # WHAT PACKAGES COMMAND
    local root=$dir/root
    mkdir -p "$dir"/{upper,work,root}
    mount -t overlay -o "lowerdir=$tree/root,upperdir=$dir/upper,workdir=$dir/work" overlay "$root"
    mount -t proc proc "$root/proc"
    mount --rbind /dev "$root/dev"
    mount -t tmpfs tmp "$root/tmp"
    debian_sources "$(. "$tree/root/etc/os-release" && echo "$VERSION_CODENAME")" >"$root/etc/apt/sources.list"
    cp /etc/resolv.conf "$root/etc/resolv.conf"
    rm -f "$root/etc/initramfs-tools/update-initramfs.conf"
    printf '#!/bin/sh\nexit 101\n' >"$root/usr/sbin/policy-rc.d"
    chmod 755 "$root/usr/sbin/policy-rc.d"
    logged "$KIT_CACHE/log/$name.live.$1.log" "$name: an initramfs by $1" chroot "$root" sh -c "set -e; export DEBIAN_FRONTEND=noninteractive
        apt-get update
        apt-get install -y --no-install-recommends -o Dpkg::Options::=--force-confold $2
        $3"
    cp "$root/boot/$1.img" "$dir/$1.img"
    umount -R "$root/dev"
    umount "$root/tmp" "$root/proc" "$root"
    rm -rf "$dir"/{upper,work,root}
}

made live-boot "live-boot live-boot-initramfs-tools initramfs-tools" "mkinitramfs -o /boot/live-boot.img $KERNEL"
made dracut "dracut dracut-live" "dracut --no-hostonly --add dmsquash-live --kver $KERNEL --force /boot/dracut.img"
echo "$stamp" >"$dir/stamp"
say "$name: images of live systems ready, $(du -h "$dir"/*.img | tr '\n\t' '  ')"
