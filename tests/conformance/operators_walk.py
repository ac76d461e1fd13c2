"""What operators' drills do: remove the leader, add it back under its name, destroy its log, recover it; nothing is lost."""
import os
import re
import shutil
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from lib import testing
from lib.cluster import Cluster
from lib.load import Load
from lib.members import add, recover, remove


def whole(cluster, load, what):
    """The writers stop, everything acknowledged is on every member, the members are equal, the writers go on."""
    load.stop()
    cluster.wait_equal()
    counts = {load.verify(member) for member in cluster.members}
    testing.step(f"{what}: {counts.pop()} writes on each of {len(cluster.members)} members")
    load.run()


def main():
    args = testing.arguments(__doc__)
    program = testing.need_helper(args, "conformance_killload")
    testing.need_helper(args, "kvctl")
    with Cluster(args.implementation, 3) as cluster, Load(program, cluster, clients=16) as load:
        load.run()
        before = cluster.member_ids()
        assert sorted(before) == ["m0", "m1", "m2"]
        old = cluster.leader()
        remove(cluster, old)
        leader = cluster.leader()
        assert leader is not old and sorted(cluster.member_ids()) == sorted(m.name for m in cluster.members)
        whole(cluster, load, f"the leader {old.name} is removed, {leader.name} leads")

        shutil.rmtree(old.data_dir)
        add(cluster, old)
        assert cluster.member_ids()[old.name] != before[old.name]
        whole(cluster, load, f"{old.name} is back by name and URL")

        old.kill()
        segments = old.wal()
        with open(segments[-1], "wb"):
            pass
        seen = len(old.log())
        old.start()
        assert old.ended() == 1
        message = old.log()[seen:]
        command = re.search(r"`(kvctl [^`]*member recover[^`]*)`", message).group(1).split()
        command[0] = os.path.join(args.bin_dir, "kvctl")
        testing.step(f"its log is destroyed; it says: {' '.join(command[2:])}")
        recover(cluster, old, command)
        whole(cluster, load, f"{old.name} is recovered")
        load.stop()


if __name__ == "__main__":
    main()
