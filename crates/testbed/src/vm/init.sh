#!/bin/busybox sh
# SPDX-License-Identifier: Apache-2.0
# The guest's first process: from the archive in memory to the root file system. Only busybox is here yet.
b=/bin/busybox

fail() {
    echo "testbed: the guest cannot $1"
    $b poweroff -f
}

$b mount -t devtmpfs dev /dev || fail "mount /dev"
$b mount -t proc proc /proc || fail "mount /proc"
while read -r module; do
    $b insmod "/$module" || fail "insert $module"
done </modules/order

# What is written goes into memory: the shared root is read-only on the other side too.
$b mount -t 9p -o trans=virtio,version=9p2000.L,ro,cache=loose,msize=524288,access=any root /lower || fail "mount the shared root"
$b mount -t tmpfs -o mode=0755 upper /upper || fail "mount a tmpfs"
$b mkdir /upper/files /upper/work
$b mount -t overlay -o lowerdir=/lower,upperdir=/upper/files,workdir=/upper/work overlay /root || fail "mount the overlay"

# Running programs of the other side have their sockets in /run.
$b mkdir -p /root/run /root/dev /root/proc
$b mount -t tmpfs -o mode=0755 run /root/run || fail "mount /run"
$b mkdir /root/run/testbed
$b cp "$b" /root/run/testbed/busybox
$b cp /start /root/run/testbed/start
$b mount --move /dev /root/dev
$b mount --move /proc /root/proc
exec $b switch_root /root /run/testbed/busybox sh /run/testbed/start
