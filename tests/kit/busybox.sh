#!/usr/bin/env bash
# Fetches Debian's dynamically linked busybox, for packing it: $KIT_CACHE/busybox/busybox. The systems themselves have the
# static one, whose package excludes this one. Debian 12's runs with any newer C library too.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
. "$here/lib.sh"
dir=$KIT_CACHE/busybox
stamp=$(sha256sum "$here/busybox.sh" | cut -c1-16)
[ "$(cat "$dir/stamp" 2>/dev/null)" != "$stamp" ] || exit 0
[ "$(id -u)" = 0 ] || exec sudo --preserve-env=TAPROOT_KIT,KIT_START,XDG_CACHE_HOME "$0" "$@"

mkdir -p "$KIT_CACHE/log"
rm -rf "$dir"
mkdir -p "$dir/lists/partial"
debian_sources bookworm >"$dir/sources.list"
opts=(-o "Dir::Etc::sourcelist=$dir/sources.list" -o Dir::Etc::sourceparts=- -o "Dir::State::lists=$dir/lists")
fetch() {
    cd "$dir"
    apt-get "${opts[@]}" update
    apt-get "${opts[@]}" download busybox/bookworm
    dpkg -x busybox_*.deb unpacked
}
logged "$KIT_CACHE/log/busybox.log" "fetching the dynamic busybox" fetch
mv "$dir/unpacked/bin/busybox" "$dir/busybox"
rm -rf "$dir"/{lists,unpacked,sources.list} "$dir"/busybox_*.deb
echo "$stamp" >"$dir/stamp"
say "dynamic busybox ready"
