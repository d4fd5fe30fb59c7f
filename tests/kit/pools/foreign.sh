# Pools that another system used last and did not export; pmulti under multihost protection.
# hostid: 0xdeadbeef
# hostname: elsewhere
# disks: foreign0=128M multi0=128M

make_pool pforeign $id-foreign0-part1
small_root pforeign
left_active pforeign

make_pool -o multihost=on pmulti $id-multi0-part1
small_root pmulti
left_active pmulti
# A machine in use writes its multihost heartbeat every second; the last one is what the next import goes by.
sleep 4
