#!/usr/bin/env bash
# Makes a tree in which mkinitcpio runs, for TAPROOT_TEST_MKINITCPIO: a copy of a Debian tree with mkinitcpio put in from a
# checkout of its sources, file by file as its meson.build does (which itself wants a newer meson than Debian 12 has), or its
# Makefile before v40.
#   mkinitcpio-tree.sh DEBIAN_TREE MKINITCPIO_CHECKOUT DEST
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
. "$here/lib.sh"

[ $# = 3 ] || die "usage: mkinitcpio-tree.sh DEBIAN_TREE MKINITCPIO_CHECKOUT DEST"
[ "$(id -u)" = 0 ] || exec sudo --preserve-env=TAPROOT_KIT,KIT_START,XDG_CACHE_HOME "$0" "$@"
tree=$1 source=$2 dest=$3
[ -e "$source/init_functions" ] || die "$source is no checkout of mkinitcpio"
version=$(git -C "$source" describe --abbrev=7 | sed 's/^v//;s/-/./g')

if [ ! -e "$dest" ]; then
    say "copying $tree"
    cp -a "$tree" "$dest.new"
    mv "$dest.new" "$dest"
fi
lib=usr/lib/initcpio
if [ ! -e "$dest/$lib/busybox" ]; then
    mkdir -p "$KIT_CACHE/log" "$dest/$lib"
    debian_sources "$(. "$dest/etc/os-release" && echo "$VERSION_CODENAME")" >"$dest/etc/apt/sources.list"
    cp /etc/resolv.conf "$dest/etc/resolv.conf"
    logged "$KIT_CACHE/log/mkinitcpio-tree.log" "installing bsdtar and gawk" \
        chroot "$dest" sh -c 'apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends libarchive-tools gawk && cd /tmp && apt-get download busybox'
    # Not that of busybox-static: its shell takes an applet before the program in PATH, so kmod's modprobe is never run.
    dpkg -x "$dest"/tmp/busybox_*.deb "$dest/tmp/busybox"
    cp "$dest/tmp/busybox/bin/busybox" "$dest/$lib/busybox"
fi

put() { # FILE DEST MODE
    sed -e "s|@VERSION@|$version|g;s|@BINDIR@|/usr/bin|g;s|@SYSCONFDIR@|/etc|g;s|@INITCPIO_LIBDIR@|/usr/lib/initcpio|g" \
        -e 's|@INITCPIO_SYSCONFDIR@|/etc/initcpio|g;s|@VCONSOLE_CONF@|/etc/vconsole.conf|g;s|@TMPFILES_PATH@|/usr/bin/systemd-tmpfiles|g' \
        -e 's|@UDEVD_PATH@|/usr/lib/systemd/systemd-udevd|g;s|@MKINITCPIO_HOOKS@|base udev autodetect keyboard block filesystems|g' \
        -e "s|%VERSION%|$version|g;s|^_f_functions=functions|_f_functions=/usr/lib/initcpio/functions|" \
        -e 's#^\(_f_config\|_d_config\|_d_presets\)=\(mkinitcpio[.a-z]*\)$#\1=/etc/\2#' \
        "$source/$1" >"$dest/$2.new"
    chmod "$3" "$dest/$2.new"
    mv "$dest/$2.new" "$dest/$2"
}

mkdir -p "$dest/$lib"/{install,hooks,post,udev} "$dest"/etc/initcpio/{install,hooks,post} "$dest"/etc/mkinitcpio{.conf.d,.d}
put mkinitcpio usr/bin/mkinitcpio 755
put lsinitcpio usr/bin/lsinitcpio 755
put mkinitcpio.conf etc/mkinitcpio.conf 644
put functions $lib/functions 755
# v39 takes their modes as they are.
put init_functions $lib/init_functions 644
for file in init shutdown; do put $file $lib/$file 755; done
for dir in install hooks; do
    for file in "$source/$dir"/*; do
        name=$(basename "$file")
        [ "$name" = meson.build ] || put "$dir/$name" "$lib/$dir/$name" 644
    done
done
for file in "$source"/udev/*.rules; do put "udev/$(basename "$file")" "$lib/udev/$(basename "$file")" 644; done

# What mkinitcpio expects where Arch has it. There is one directory of programs there, and one in the image: hard links,
# because in the image a symbolic link from one to the other would point to itself.
for file in "$dest"/usr/sbin/*; do
    other=$dest/usr/bin/${file##*/}
    case "$(readlink "$other" || true)" in */sbin/"${file##*/}") rm "$other" ;; esac
    [ -e "$other" ] || [ -L "$other" ] || cp -Pl "$file" "$other"
done
ln -sf "$(cd "$dest" && ls usr/lib/*/libkmod.so.2 | sed 's|^usr/lib/||')" "$dest/usr/lib/libkmod.so.2"
mkdir -p "$dest/etc/udev"
[ -L "$dest/etc/udev/hwdb.bin" ] || [ -e "$dest/etc/udev/hwdb.bin" ] || ln -s /usr/lib/udev/hwdb.bin "$dest/etc/udev/hwdb.bin"
say "$dest: $(chroot "$dest" mkinitcpio --version | tr -d '"')"
