"""A follower that was down while the log was cut behind it catches up by snapshot, then by log."""
import os
import re
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from lib import testing
from lib.cluster import Cluster, wait_until
from lib.load import Load

WRITES = 20_000


def main():
    args = testing.arguments(__doc__)
    program = testing.need_helper(args, "conformance_killload")
    with Cluster(args.implementation, 3, ["--snapshot-count", "2000"]) as cluster, Load(program, cluster) as load:
        load.count(200)
        follower = cluster.follower()
        follower.kill()
        seen = len(follower.log())
        testing.step(f"{follower.name} is down")
        load.count(WRITES)
        testing.step(f"{WRITES} writes")
        follower.start()
        load.run()
        wait_until("a snapshot arrives", lambda: re.search(r"snapshot.*(appl|receiv|install|sav)|(appl|receiv|install|sav).*snapshot",
                                                           follower.log()[seen:], re.IGNORECASE), 60)
        follower.wait_healthy()
        load.stop()
        revision = cluster.wait_equal()
        load.verify(follower)
        testing.step(f"equal at revision {revision}")
        # What it got by snapshot has to be on disk by now.
        follower.kill()
        follower.start()
        follower.wait_healthy()
        load.count(500)
        cluster.wait_equal()
        testing.step(f"restarted, {load.verify(follower)} writes are there")


if __name__ == "__main__":
    main()
