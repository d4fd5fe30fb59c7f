#!/usr/bin/env bash
# Runs lint and all tests; the last line is "N passed, N failed, N skipped". Needs the kit and the binaries (make kit build).
#   run.sh [--all] [WORDS-FOR-THE-HARNESS...]     --all: every scenario on every kit system, with the one that is made on demand (make test-all)
#
# Before it stand the tests that were skipped, each with its reason, and the virtual machines that were run again because
# the emulator failed. More than AGAIN_LIMIT of those fail the run: what passes on such an emulator proves little.
set -uo pipefail
cd "$(dirname "$0")/.."
all_nextest=() all_cargo=()
if [ "${1-}" = --all ]; then
    shift
    all_nextest=(--run-ignored all) all_cargo=(--include-ignored)
fi
. tests/kit/lib.sh
readonly AGAIN_LIMIT=3
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
log=$work/log
# Each test that is skipped, and each whose machines are run again, adds a line (tests/src/account.rs).
export TAPROOT_SKIPPED=$work/skipped TAPROOT_AGAIN=$work/again
: >"$TAPROOT_SKIPPED"
# The kit that this run uses was made with the same emulator; what that noted counts once.
mv "$KIT_CACHE/log/again" "$TAPROOT_AGAIN" 2>/dev/null || : >"$TAPROOT_AGAIN"
rm -rf out/vm-logs/first-run
failed=0 passed=0

# Disk images are made and thrown away all the time; a disk that is full shows as failures of another kind, after most of an hour.
readonly ROOM=5
gigabytes() { df --output=avail -B1G "$1" | tail -n 1 | tr -d ' '; }
room() { echo "== free: $(gigabytes .) GB here, $(gigabytes "$KIT_CACHE") GB in the kit's cache, $(gigabytes /var/tmp) GB in /var/tmp"; }
room
for place in . "$KIT_CACHE" /var/tmp; do
    [ "$(gigabytes "$place")" -ge "$ROOM" ] || die "$place: expected $ROOM GB free (a run takes 4, its build 3), found $(gigabytes "$place"); make room there"
done

# One step that is not a test of its own harness: counts as one.
step() {
    echo "== $*"
    if "$@"; then passed=$((passed + 1)); else failed=$((failed + 1)); fi
}

if cargo fmt --version >/dev/null 2>&1; then
    step cargo fmt --all --check
else
    echo "cargo fmt: rustfmt is not installed, the format is not checked" >>"$TAPROOT_SKIPPED"
fi
if cargo clippy --version >/dev/null 2>&1; then
    step cargo clippy --locked --quiet --workspace --all-targets -- -D warnings
else
    echo "cargo clippy: clippy is not installed, nothing is linted" >>"$TAPROOT_SKIPPED"
fi
# The fuzz targets and the writer of their seeds are no members of the workspace, and must not rot.
step cargo check --locked --quiet --manifest-path fuzz/Cargo.toml --target-dir target/fuzz --bins --examples
if cargo deny --version >/dev/null 2>&1; then
    # Advisories come over the network: `cargo deny check` by hand has them.
    step cargo deny --offline --log-level error check licenses bans sources
else
    echo "cargo deny: cargo-deny is not installed (cargo install cargo-deny), licences and sources are not checked" >>"$TAPROOT_SKIPPED"
fi
# In release, whose libraries `make build` has made: unoptimized, the same would take longer than its build.
step make --no-print-directory sim RUNS=20000
step make --no-print-directory layer-sim SEEDS=5000
steps_skipped=$(wc -l <"$TAPROOT_SKIPPED")

# A backtrace through the harness says nothing; the guest's console is shown instead.
export RUST_BACKTRACE=${TAPROOT_BACKTRACE:-0}
if cargo nextest --version >/dev/null 2>&1; then
    cargo nextest run --locked --workspace "${all_nextest[@]}" "$@" 2>&1 | tee "$log"
    status=$?
    summary=$(grep -E '^ +Summary \[' "$log" | tail -n 1)
    # A test binary that does not build leaves no summary.
    number() { sed -n "s/.* \([0-9]\+\) $1.*/\1/p" <<<"$summary" | grep . || echo 0; }
    tests=$(number passed)
    count=$(($(number failed) + $(number 'timed out')))
    on_demand=$(number skipped)
else
    cargo test --locked --workspace --no-fail-fast -- --test-threads=2 "${all_cargo[@]}" "$@" 2>&1 | tee "$log"
    status=$?
    sum() { sed -n "s/^test result:.* \([0-9]\+\) $1;.*/\1/p" "$log" | paste -sd+ | grep . || echo 0; }
    tests=$(($(sum passed)))
    count=$(($(sum failed)))
    on_demand=$(($(sum ignored)))
fi
[ "$status" = 0 ] || [ "$count" -gt 0 ] || count=1
failed=$((failed + count))

# A test that skips, wholly or in part, ends well as far as its harness knows. One may say so several times, for its parts; one that
# failed in another part counts as failed.
ended_well() { while read -r name; do grep -Eq "(FAIL|TIMEOUT) .* $name\$|^test $name \.\.\. FAILED" "$log" || echo "$name"; done; }
skipped=$(sed 's/: .*//' "$TAPROOT_SKIPPED" | sort -u | ended_well | grep -c .)
passed=$((passed + tests - (skipped - steps_skipped)))
if [ "$skipped" -gt 0 ]; then
    echo "== skipped"
    sort -u "$TAPROOT_SKIPPED" | sed 's/^/   /'
fi
again=$(grep -c . "$TAPROOT_AGAIN")
if [ "$again" -gt 0 ]; then
    echo "== virtual machines run again: $again"
    sed 's/^/   /' "$TAPROOT_AGAIN"
    if [ "$again" -gt "$AGAIN_LIMIT" ]; then
        echo "   more than $AGAIN_LIMIT: the emulator of this machine is not to be relied on, so the run counts as failed"
        failed=$((failed + 1))
    fi
fi
[ "$on_demand" = 0 ] || echo "== left out, because nobody asked for them: $on_demand tests (make test-all)"
room
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" = 0 ]
