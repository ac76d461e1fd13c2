"""One member after another is restarted under 64 clients; a data directory of an older kvd opens."""
import os
import re
import sys
import tarfile

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from lib import testing
from lib.cluster import Cluster
from lib.load import Load

FIXTURE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "fixtures", "data-dir-0.1.0.tar.xz")
# What the member said of itself when it wrote the fixture.
OLD_REVISION, OLD_HASH, OLD_COMPACTED, OLD_LEASE = 554, 908982259, 200, "71e6a1fc5cbd9230"


def rolling(args, program):
    with Cluster(args.implementation, 3) as cluster, Load(program, cluster, clients=64) as load:
        load.run()
        load.mark()
        for member in list(cluster.members):
            role = "leader" if cluster.leader() is member else "follower"
            member.stop()
            member.start()
            member.wait_healthy()
            testing.step(f"{member.name}, a {role}, is restarted")
        pause = load.silence()
        load.stop()
        cluster.wait_equal()
        for member in cluster.members:
            count = load.verify(member)
        testing.step(f"{count} acknowledged writes are on each member; the longest pause was {pause:.2f} s")
        assert pause < 15


def older_data(args):
    cluster = Cluster(args.implementation, 1)
    member = cluster.members[0]
    try:
        os.mkdir(member.data_dir, 0o700)
        with tarfile.open(FIXTURE) as archive:
            archive.extractall(member.data_dir)
        for _ in range(2):
            member.start()
            member.wait_healthy()
            state = member.hash_kv()
            assert state["header"]["revision"] == OLD_REVISION and state["compact_revision"] == OLD_COMPACTED, state
            assert state["hash"] == OLD_HASH, state
            assert OLD_LEASE in cluster.kvctl("lease", "list").stdout
            assert cluster.kvctl("get", "leased", "-w", "json").stdout.count('"lease"') == 1
            with open(os.path.join(member.data_dir, "member", "version")) as version:
                assert re.match(r"format 1\nkvd \S+\nmember d572e919ef4271e6\ncluster ad3a473b61a57d99\n", version.read())
            member.stop()
        testing.step("an older kvd's data directory opens")
        path = os.path.join(member.data_dir, "member", "version")
        with open(path, "w") as version:
            version.write("format 99\nkvd 9.9.9\n")
        member.start()
        assert member.ended() == 1 and "start kvd 9.9.9 or newer" in member.log(), member.log_tail()
        testing.step("a newer kvd's is refused")
    finally:
        cluster.close()


def main():
    args = testing.arguments(__doc__)
    program = testing.need_helper(args, "conformance_killload")
    testing.need_helper(args, "kvctl")
    older_data(args)
    rolling(args, program)


if __name__ == "__main__":
    main()
