"""Members on small file systems that fill up and are given room again: writes are refused, reads, deletes and
compaction go on, and all is well once there is room.

Runs in a mount namespace of its own."""
import errno
import os
import shutil
import subprocess
import time

from lib.cluster import Cluster, wait_until
from lib.load import Load
from scene import MEMBER_ARGS, Scene, step

MB = 1_000_000
# A log segment takes 64 MB of it at once, and below 131 MB of room writes are refused.
SIZE_MB = 300
REFUSED = "etcdserver: mvcc: database space exceeded"


class SmallDisk:
    def __init__(self, member, size_mb):
        self.path = member.data_dir
        self.size_mb = size_mb
        os.makedirs(self.path, mode=0o700)
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size_mb}m,mode=700", "tmpfs", self.path], check=True)

    @property
    def ballast(self):
        return os.path.join(self.path, "ballast")

    def free(self):
        stat = os.statvfs(self.path)
        return stat.f_bavail * stat.f_frsize

    def fill(self, leave):
        """Takes all room but `leave` bytes."""
        with open(self.ballast, "ab") as out:
            while (have := self.free()) > leave:
                try:
                    os.posix_fallocate(out.fileno(), os.fstat(out.fileno()).st_size, have - leave)
                    return
                except OSError as error:  # the member has taken some of it meanwhile
                    if error.errno != errno.ENOSPC:
                        raise

    def give_room(self):
        os.unlink(self.ballast)

    def grow(self, size_mb):
        subprocess.run(["mount", "-o", f"remount,size={size_mb}m", self.path], check=True)

    def close(self):
        subprocess.run(["umount", "-l", self.path], check=False)


class SmallDisks:
    """Before the cluster starts; unmounted after it has ended."""

    def __init__(self, cluster, size_mb):
        self.disks = [SmallDisk(member, size_mb) for member in cluster.members]

    def __enter__(self):
        return self.disks

    def __exit__(self, *_):
        for disk in self.disks:
            disk.close()


# Would put, but never comes to it: where writes are taken it changes nothing.
PROBE = 'version("nothing") > "0"\n\nput nothing refused\n\n\n'


def put_is_refused(cluster, member):
    result = cluster.etcdctl("txn", endpoint=member, check=False, stdin=PROBE)
    assert result.returncode == 0 or REFUSED in result.stderr, result.stderr
    return result.returncode != 0


def puts_stay_refused(cluster, member):
    """For seconds: what is flushed, and the log that is cut behind it, may make room."""
    for _ in range(10):
        if not put_is_refused(cluster, member):
            return False
        time.sleep(0.3)
    return True


def health(cluster, member):
    result = subprocess.run(["curl", "-s", member.client_url + "/health"], capture_output=True, text=True, timeout=10)
    return result.stdout


def full_but_alive(cluster, what):
    for member in cluster.members:
        wait_until(f"{member.name} refuses writes ({what})", lambda: put_is_refused(cluster, member), 10)
        assert "NOSPACE" in health(cluster, member), f"{member.name} calls itself healthy"
        cluster.etcdctl("get", "k", "--prefix", endpoint=member)
        cluster.etcdctl("del", "nothing", endpoint=member)


def takes_writes(scene, what):
    started = time.monotonic()
    scene.wait_for_writes(30)
    step(f"full disk: {what}: writes are taken again after {time.monotonic() - started:.1f} s")


def from_outside(tools, implementation):
    """Somebody else fills the disks, the last byte of them, of one member and of all."""
    rng = tools.random("full disk")
    cluster = Cluster(implementation, 3, MEMBER_ARGS)
    with SmallDisks(cluster, SIZE_MB) as disks, cluster, Scene(tools, cluster, "full disk") as scene:
        scene.ask("run")
        time.sleep(1)
        one = rng.randrange(3)
        disks[one].fill(0)
        wait_until("the full member refuses", lambda: put_is_refused(cluster, cluster.members[one]), 10)
        scene.wait_for_writes()
        step("full disk: one is full: the others take writes")
        for _ in range(1 if tools.short else 4):
            for disk in disks:
                disk.fill(100 * MB)
            full_but_alive(cluster, "nearly full")
            scene.ask("compact")
            for disk in disks:
                disk.fill(0)
            full_but_alive(cluster, "full")
            time.sleep(rng.uniform(0, 1 if tools.short else 6))
            scene.ask("compact")
            for disk in rng.sample(disks, 3):
                disk.give_room()
            takes_writes(scene, "room is given")
            # A member that dies while it is full comes back once it is not.
            victim = rng.randrange(3)
            disks[victim].fill(0)
            cluster.members[victim].kill()
            scene.wait_for_writes()
            disks[victim].give_room()
            cluster.members[victim].start()
            cluster.members[victim].wait_healthy()
        scene.finish()


def from_inside(tools, implementation, left):
    """The member's own data fill its disk; deleted and compacted, they make room again; so does a larger disk.

    Somebody else takes all but `left` bytes of it, which is not much more than what the member has in memory."""
    cluster = Cluster(implementation, 1, (*MEMBER_ARGS, "--max-wals=1", "--quota-backend-bytes=10000000000"))
    with SmallDisks(cluster, 600) as (disk,), cluster, \
            Load(tools.killload, cluster, clients=4, value_bytes=200_000) as load:
        member = cluster.members[0]
        load.run()
        wait_until("its own data fill the disk", lambda: puts_stay_refused(cluster, member), 90)
        load.stop()
        written = load.verify(member)
        full_but_alive(cluster, "its own data")
        disk.grow(900)
        wait_until("a larger disk takes writes", lambda: not put_is_refused(cluster, member), 30)
        wait_until("it is full again", lambda: disk.fill(left) or put_is_refused(cluster, member), 30)
        load.verify(member)
        cluster.etcdctl("del", "load/", "--prefix", endpoint=member, timeout=60)
        revision = member.status()["header"]["revision"]
        cluster.etcdctl("compact", str(revision), endpoint=member)
        started = time.monotonic()
        wait_until("deleted and compacted data make room", lambda: not put_is_refused(cluster, member), 90)
        step(f"full disk: {written} values of 200 kB filled it, and {time.monotonic() - started:.1f} s after they were "
             "deleted and compacted writes are taken again")


def full_disk(tools, implementation):
    from_outside(tools, implementation)
    if os.access(tools.killload, os.X_OK) and shutil.which("curl"):
        for left in (100 * MB, 75 * MB):
            from_inside(tools, implementation, left)
