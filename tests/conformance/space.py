"""The quota: what grows the database is refused with etcd's text, the rest works, and the alarm goes by itself."""
import os
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from lib import testing
from lib.cluster import Cluster, wait_until

QUOTA = 48 << 20
EXCEEDED = "etcdserver: mvcc: database space exceeded"


def fill(cluster):
    """Writes until the quota is met; how many writes that took."""
    for i in range(400):
        result = cluster.etcdctl("put", f"fill/{i % 10}", check=False, stdin=os.urandom(600_000).hex())
        if result.returncode != 0:
            assert EXCEEDED in result.stderr, result.stderr
            return i
    raise AssertionError("the quota is never met")


def alarms(cluster):
    return cluster.etcdctl("alarm", "list").stdout


def refused(cluster, *command, stdin=None):
    result = cluster.etcdctl(*command, check=False, stdin=stdin)
    assert result.returncode != 0 and EXCEEDED in result.stderr, (command, result)


def make_room(cluster):
    revision = cluster.members[0].status()["header"]["revision"]
    cluster.etcdctl("del", "--prefix", "fill/")
    cluster.etcdctl("compact", "--physical", str(revision + 1))


def works_while_full(cluster, lease):
    refused(cluster, "put", "small", "v")
    refused(cluster, "lease", "grant", "100")
    refused(cluster, "txn", stdin='\nput a b\n\n\n')
    assert cluster.etcdctl("get", "fill/1", "--keys-only").stdout
    cluster.etcdctl("del", "none")
    cluster.etcdctl("lease", "keep-alive", "--once", lease)
    cluster.etcdctl("lease", "revoke", lease)
    assert cluster.etcdctl("get", "leased").stdout == ""
    assert not cluster.members[0].healthy(), "/health says 503"


def run(args, size, *flags):
    cluster = Cluster(args.implementation, size, ["--quota-backend-bytes", str(QUOTA), *flags])
    with cluster:
        lease = cluster.etcdctl("lease", "grant", "1000").stdout.split()[1]
        cluster.etcdctl("put", "leased", "v", f"--lease={lease}")
        writes = fill(cluster)
        wait_until("an alarm", lambda: "NOSPACE" in alarms(cluster), 10)
        testing.step(f"full after {writes} writes of 1.2 MB, {size} members")
        works_while_full(cluster, lease)
        make_room(cluster)
        if flags:
            time.sleep(8)
            assert "NOSPACE" in alarms(cluster), "it waits to be disarmed"
            cluster.etcdctl("alarm", "disarm")
        wait_until("the alarm to go", lambda: "NOSPACE" not in alarms(cluster), 60, pause=0.5)
        cluster.etcdctl("put", "small", "v")
        assert cluster.members[0].healthy()
        testing.step("room again" + (", disarmed by hand" if flags else ", by itself"))
        if size > 1:
            cluster.wait_equal()


def main():
    args = testing.arguments(__doc__)
    run(args, 1)
    run(args, 3)
    run(args, 1, "--no-space-auto-disarm=false")


if __name__ == "__main__":
    main()
