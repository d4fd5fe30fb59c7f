# Functions for programs that are hooks of `taproot image`, to be sourced: . "$TAPROOT_HELPERS"
# Their names and what they do are those that vmdebootstrap gave to its customisation scripts. POSIX shell.
#
# rootdir is the tree, which such a script has as its first argument, or as TAPROOT_ROOT.
# shellcheck shell=sh

rootdir=${rootdir:-${TAPROOT_ROOT:-}}
taproot_mounted=

inform() { printf '%s\n' "$*" >&2; }
warn() { printf 'warning: %s\n' "$*" >&2; }
die() {
    printf 'error: %s\n' "$*" >&2
    exit 1
}

need_rootdir() {
    [ -n "$rootdir" ] && [ "$rootdir" != / ] && [ -d "$rootdir" ] || die "expected a tree in rootdir, found '$rootdir'"
}

# No questions, no translations.
export_env() {
    export DEBIAN_FRONTEND=noninteractive
    export LC_ALL=C LANG=C LANGUAGE=C
}

mount_proc() {
    need_rootdir
    mkdir -p "$rootdir/proc"
    mount -t proc proc "$rootdir/proc" || die "mounting $rootdir/proc"
    taproot_mounted="$rootdir/proc $taproot_mounted"
}

# What packages' scripts expect; cleanup takes it away again.
mount_support() {
    mount_proc
    mkdir -p "$rootdir/sys" "$rootdir/dev/pts"
    mount -t sysfs -o ro sysfs "$rootdir/sys" || die "mounting $rootdir/sys"
    taproot_mounted="$rootdir/sys $taproot_mounted"
    mount -t devpts devpts "$rootdir/dev/pts" || die "mounting $rootdir/dev/pts"
    taproot_mounted="$rootdir/dev/pts $taproot_mounted"
}

# Services that packages bring are not started while the tree is made.
disable_daemons() {
    need_rootdir
    mkdir -p "$rootdir/usr/sbin"
    printf '#!/bin/sh\nexit 101\n' >"$rootdir/usr/sbin/policy-rc.d"
    chmod 755 "$rootdir/usr/sbin/policy-rc.d"
}

remove_daemon_block() {
    need_rootdir
    rm -f "$rootdir/usr/sbin/policy-rc.d"
}

# prepare_apt_source MIRROR SUITE: packages come from there while the tree is made.
prepare_apt_source() {
    need_rootdir
    [ $# -eq 2 ] || die "prepare_apt_source: expected MIRROR SUITE"
    mkdir -p "$rootdir/etc/apt"
    if [ -e "$rootdir/etc/apt/sources.list" ] && [ ! -e "$rootdir/etc/apt/sources.list.taproot" ]; then
        mv "$rootdir/etc/apt/sources.list" "$rootdir/etc/apt/sources.list.taproot"
    fi
    printf 'deb %s %s main\n' "$1" "$2" >"$rootdir/etc/apt/sources.list"
}

# The tree's own list again.
replace_apt_source() {
    need_rootdir
    if [ -e "$rootdir/etc/apt/sources.list.taproot" ]; then
        mv "$rootdir/etc/apt/sources.list.taproot" "$rootdir/etc/apt/sources.list"
    fi
}

# A module that virtual machines of old hung in.
blacklist_qemu_bochs() {
    need_rootdir
    mkdir -p "$rootdir/etc/modprobe.d"
    printf 'blacklist bochs-drm\n' >"$rootdir/etc/modprobe.d/qemu-blacklist.conf"
}

# Runs a program in the tree.
in_root() {
    need_rootdir
    chroot "$rootdir" "$@"
}

# At the end, whatever happened: trap cleanup EXIT
cleanup() {
    taproot_status=$?
    for taproot_at in $taproot_mounted; do
        umount "$taproot_at" || umount -l "$taproot_at" || warn "$taproot_at stays mounted"
    done
    taproot_mounted=
    [ -z "$rootdir" ] || [ "$rootdir" = / ] || remove_daemon_block
    return "$taproot_status"
}
