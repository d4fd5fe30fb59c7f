#!/usr/bin/env bash
# The whole kit: host packages, the Debian trees, their pools. Every step is stamped: what is there is not made again,
# and a run that was cut off goes on where it stopped.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
. "$here/lib.sh"
mkdir -p "$KIT_CACHE"/{log,run,images}
"$here/host.sh"
for name in debian12-zfs2.3 debian12-zfs2.1; do
    "$here/tree.sh" "$name"
    "$here/pools.sh" "$name"
done
say "kit ready in $KIT_CACHE"
