"""The same random requests leave a real etcd and the server under test with equal answers and equal HashKV."""
import os
import random
import subprocess
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from lib import testing
from lib.cluster import Cluster, clean_environment, die_with_parent


def main():
    args = testing.arguments(__doc__)
    program = testing.need_helper(args, "conformance_replay")
    etcd = testing.real_etcd()
    operations = os.environ.get("REPLAY_OPERATIONS", "10000")
    seed = os.environ.get("REPLAY_SEED", str(random.randrange(2**32)))
    for size in (1, 3):
        testing.step(f"REPLAY_SEED={seed}, {operations} operations, {size} members")
        with Cluster(etcd, 1) as reference, Cluster(args.implementation, size) as tested:
            endpoints = (reference.members[0].endpoint, tested.follower().endpoint if size > 1 else tested.endpoints)
            subprocess.run([program, *endpoints, operations, seed], check=True, timeout=500, env=clean_environment(),
                           preexec_fn=die_with_parent)
            if size > 1:
                tested.wait_equal()
        operations = str(int(operations) // 5)


if __name__ == "__main__":
    main()
