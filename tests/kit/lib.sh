# Shared by the kit scripts: where the cache is, progress lines, apt sources. Sourced, never run.
# The cache lives outside the checkout so that a fresh clone does not rebuild an hour of work.

KIT_CACHE=${TAPROOT_KIT:-${XDG_CACHE_HOME:-$HOME/.cache}/taproot-kit}
KIT_START=${KIT_START:-$(date +%s)}
# sudo changes HOME; what it runs must use the same cache.
TAPROOT_KIT=$KIT_CACHE
export KIT_CACHE KIT_START TAPROOT_KIT

say() { printf '[kit %4ds] %s\n' "$(($(date +%s) - KIT_START))" "$*" >&2; }
die() { say "error: $*"; exit 1; }

# Runs "$@" with its output in the log file $1; prints a line every 30 s so that a silent CI log does not look dead.
logged() {
    local log=$1 what=$2 pid
    shift 2
    say "$what (log: $log)"
    "$@" >"$log" 2>&1 </dev/null &
    pid=$!
    while kill -0 "$pid" 2>/dev/null; do
        for _ in {1..30}; do
            kill -0 "$pid" 2>/dev/null || break
            sleep 1
        done
        kill -0 "$pid" 2>/dev/null && say "$what: $(tail -c 2000 "$log" | tr '\r' '\n' | grep -v '^ *$' | tail -n 1 | cut -c1-100)"
    done
    if ! wait "$pid"; then
        tail -n 40 "$log" >&2
        die "$what failed; the whole log is $log"
    fi
}

# The Debian mirror this machine itself uses, from apt's own tables: no host name is written down anywhere.
# Prints the base URI of the archive whose label is $1 ("Debian" or "Debian-Security").
mirror_of() {
    apt-get indextargets --format '$(LABEL)|$(ORIGIN)|$(REPO_URI)' 'Created-By: Packages' 2>/dev/null |
        awk -F'|' -v l="$1" '$1 == l && $2 == "Debian" { print $3; exit }'
}

# A private apt list for the Debian release $1 (bookworm, trixie) with contrib and backports.
debian_sources() { # SUITE
    local main security suite key=/usr/share/keyrings/debian-archive-keyring.gpg
    main=$(mirror_of Debian)
    security=$(mirror_of Debian-Security)
    [ -n "$main" ] || die "apt knows no Debian archive; expected at least one Debian source in /etc/apt (then run: apt-get update)"
    [ -e "$key" ] || die "$key is missing; install debian-archive-keyring"
    for suite in "$1" "$1-updates" "$1-backports"; do
        echo "deb [signed-by=$key] $main $suite main contrib"
    done
    [ -z "$security" ] || echo "deb [signed-by=$key] $security $1-security main contrib"
}
