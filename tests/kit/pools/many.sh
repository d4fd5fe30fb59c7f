# A pool of 60 leaves for the benchmark, each a partition; the benchmark makes a disk of each. Beside it the pool `few` of two.
# disks: many0=3904M few0=130M
# parts: many0=60 few0=2
# systems: debian13-zfs2.4
# on-demand: bench

groups=()
for group in {0..9}; do
    groups+=(raidz)
    for number in {1..6}; do groups+=($id-many0-part$((group * 6 + number))); done
done
make_pool many "${groups[@]}"
small_root many
zpool export many

make_pool few mirror $id-few0-part1 $id-few0-part2
small_root few
zpool export few
