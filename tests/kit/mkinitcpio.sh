#!/usr/bin/env bash
# Packs an image with the mkinitcpio of TREE (/ on Arch), for the kernel of the kit system SYSTEM_ROOT, with the hook files of
# HOOK_DIR and the boot binary BINARY. Works on an overlay in a mount namespace of its own, so that TREE stays as it is.
#   mkinitcpio.sh TREE SYSTEM_ROOT KERNEL HOOK_DIR BINARY IMAGE [mkinitcpio.conf lines...]
set -euo pipefail
[ $# -ge 6 ] || { echo "usage: mkinitcpio.sh TREE SYSTEM_ROOT KERNEL HOOK_DIR BINARY IMAGE [LINE...]" >&2; exit 2; }
[ "$(id -u)" = 0 ] || exec sudo "$0" "$@"
[ "${TAPROOT_IN_NAMESPACE:-}" = yes ] || TAPROOT_IN_NAMESPACE=yes exec unshare --mount --propagation private "$0" "$@"

tree=$1 system=$2 kernel=$3 hooks=$4 binary=$5 image=$6
shift 6
# A tmpfs of this namespace: it goes when the script ends.
work=/mnt
mount -t tmpfs -o mode=755 tmpfs $work
mkdir $work/{upper,work,root,system,hooks}
mount --bind "$system" $work/system
mount --bind "$hooks" $work/hooks
install -m 755 "$binary" $work/taproot-init
mount -t overlay -o lowerdir="$tree",upperdir=$work/upper,workdir=$work/work overlay $work/root
root=$work/root
mount -t proc proc $root/proc
mount --rbind /dev $root/dev
mount -t tmpfs tmpfs $root/tmp

install -D -m 644 $work/hooks/install/taproot $root/usr/lib/initcpio/install/taproot
install -D -m 644 $work/hooks/hooks/taproot $root/usr/lib/initcpio/hooks/taproot
install -D -m 755 $work/taproot-init $root/usr/lib/taproot/taproot-init
install -m 644 $work/system/etc/hostid $root/etc/hostid
mkdir -p "$root/usr/lib/modules/$kernel"
mount --bind "$work/system/usr/lib/modules/$kernel" "$root/usr/lib/modules/$kernel"

printf '%s\n' "$@" >$root/tmp/mkinitcpio.conf
# v39 has no such option.
nopost=
grep -q nopost $root/usr/bin/mkinitcpio && nopost=--nopost
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin chroot $root mkinitcpio --version >&2
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin chroot $root mkinitcpio --nocolor $nopost -c /tmp/mkinitcpio.conf -k "$kernel" -g /tmp/image >&2
cat $root/tmp/image >"$image"
