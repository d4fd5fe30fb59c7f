#!/bin/sh
# Runs each fuzz target for the given number of seconds (600 unless told), from the corpus kept in fuzz/corpus.
# Usage: fuzz/run.sh [SECONDS [TARGET...]]
set -eu
cd "$(dirname "$0")"
seconds=${1:-600}
[ $# -eq 0 ] || shift
[ $# -gt 0 ] || set -- nvlist label assemble cmdline superblock text archive elf modules keymap facts scout_message verity layerlist layer_state persistence_conf notes pool

target=x86_64-unknown-linux-gnu
# The coverage that libFuzzer steers by, from the stable compiler's own flags: no nightly, no address sanitizer
# (the code under test has no unsafe). They replace the static linking that the product is built with.
export RUSTFLAGS="--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
-Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
-Cllvm-args=-sanitizer-coverage-trace-compares"
cargo build --locked --release --target $target --bins
# The seed writer is an ordinary program: coverage would need a fuzzer to report to.
RUSTFLAGS='' cargo run --locked --quiet --target $target --example seeds --target-dir target/seeds -- target/seeds/corpus

failed=0
for name in "$@"; do
    mkdir -p "corpus/$name" "artifacts/$name" "target/seeds/corpus/$name"
    log="target/$name.log"
    echo "fuzz: $name: $seconds s"
    # No input may take 5 s or 512 MiB.
    if nice -n 10 "target/$target/release/$name" -max_total_time="$seconds" -max_len=32768 -timeout=5 \
        -rss_limit_mb=512 -print_final_stats=1 -verbosity=0 -print_funcs=0 \
        -artifact_prefix="artifacts/$name/" "corpus/$name" "target/seeds/corpus/$name" >"$log" 2>&1; then
        grep '^stat::' "$log"
    else
        failed=1
        tail -n 40 "$log"
        echo "fuzz: $name failed; the input is in fuzz/artifacts/$name, the log in fuzz/$log" >&2
    fi
done
exit $failed
