#!/usr/bin/env bash
# Fetches the package systemd-container (systemd-nspawn, machinectl) in the version that a kit system's systemd has, for the machine that
# installs it: $KIT_CACHE/container/SYSTEM.deb. An archive that has moved on has another one, which does not fit: then there is none, and
# the test that wants it is skipped until the tree is made anew.
#   container.sh KIT-SYSTEM
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
. "$here/lib.sh"
name=${1:?usage: container.sh KIT-SYSTEM}
dir=$KIT_CACHE/container
root=$KIT_CACHE/trees/$name/root
version=$(dpkg-query --admindir "$root/var/lib/dpkg" --show --showformat '${Version}' systemd)
[ "$(cat "$dir/$name.version" 2>/dev/null)" != "$version" ] || exit 0
[ "$(id -u)" = 0 ] || exec sudo --preserve-env=TAPROOT_KIT,KIT_START,XDG_CACHE_HOME "$0" "$@"

work=$dir/$name.work
mkdir -p "$KIT_CACHE/log"
rm -rf "$work" "$dir/$name.deb" "$dir/$name.version"
mkdir -p "$work/lists/partial"
debian_sources "$(. "$root/usr/lib/os-release" && echo "$VERSION_CODENAME")" >"$work/sources.list"
opts=(-o "Dir::Etc::sourcelist=$work/sources.list" -o Dir::Etc::sourceparts=- -o "Dir::State::lists=$work/lists")
fetch() {
    cd "$work"
    apt-get "${opts[@]}" update
    apt-get "${opts[@]}" download "systemd-container=$version"
}
if ! (logged "$KIT_CACHE/log/container.log" "$name: fetching systemd-container $version" fetch); then
    rm -rf "$work"
    say "$name: systemd-container $version is not to be had; the test of containers will be skipped"
    exit 0
fi
mv "$work"/systemd-container_*.deb "$dir/$name.deb"
rm -rf "$work"
echo "$version" >"$dir/$name.version"
say "$name: systemd-container ready"
