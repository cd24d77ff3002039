# SPDX-License-Identifier: Apache-2.0
# The guest's first process, on its root file system: mounts, modules, then the command that the other side left in the
# exchange folder. What the other side learns, it learns from files there.
b=/run/testbed/busybox
exchange=/run/testbed/exchange

fail() {
    echo "testbed: the guest cannot $1"
    $b poweroff -f
}

$b mkdir "$exchange"
$b mount -t 9p -o trans=virtio,version=9p2000.L,cache=none,msize=524288,access=any exchange "$exchange" || fail "mount the exchange folder"

$b mkdir -p /sys /dev/pts /dev/shm /var/tmp /lib/modules
$b mount -t sysfs sys /sys
$b mount -t cgroup2 cgroup /sys/fs/cgroup
$b mount -t devpts -o gid=5,mode=620,ptmxmode=666 devpts /dev/pts
$b mount -t tmpfs -o mode=1777 shm /dev/shm
$b ln -s /proc/self/fd /dev/fd
$b ln -s /proc/self/fd/0 /dev/stdin
$b ln -s /proc/self/fd/1 /dev/stdout
$b ln -s /proc/self/fd/2 /dev/stderr

release=$($b uname -r)
$b mkdir -p "/lib/modules/$release"
$b mount --bind "$($b cat "$exchange/modules")" "/lib/modules/$release" || fail "bind the modules"
# The kernel calls this with an alias; whether kmod is installed does not matter then.
printf '#!%s sh\nexec %s modprobe "$@"\n' "$b" "$b" >/run/testbed/modprobe
$b chmod 0755 /run/testbed/modprobe
echo /run/testbed/modprobe >/proc/sys/kernel/modprobe

# Folders of hosts, which belong to test beds of the other side.
$b mount -t tmpfs -o mode=1777 tmp /var/tmp || fail "mount /var/tmp"
$b hostname stock-kernel
$b ip link set lo up

: >"$exchange/started"
$b sh "$exchange/command" </dev/null >"$exchange/stdout" 2>"$exchange/stderr"
echo $? >"$exchange/status"
$b poweroff -f
