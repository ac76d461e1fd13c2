"""The same random programs on a real etcd and on the server under test: equal answers, errors, events and HashKV."""
import os
import random
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from lib import testing
from lib.cluster import Cluster, clean_environment, die_with_parent

MEMORY = "/dev/shm"  # nothing here is about disks


def main():
    args = testing.arguments(__doc__)
    program = testing.need_helper(args, "conformance_diff")
    etcd = testing.real_etcd()
    if os.access(MEMORY, os.W_OK):
        tempfile.tempdir = MEMORY
    operations = int(os.environ.get("DIFF_OPERATIONS", "50000"))
    seed = int(os.environ.get("DIFF_SEED", random.randrange(2**32)))
    for size, share in ((1, 1), (3, 10)):
        testing.step(f"DIFF_SEED={seed}, {operations // share} operations, {size} members")
        with Cluster(etcd, 1) as reference, Cluster(args.implementation, size) as tested:
            endpoints = (reference.members[0].endpoint, tested.follower().endpoint if size > 1 else tested.endpoints)
            result = subprocess.run([program, *endpoints, str(operations // share), str(seed)],
                                    env=clean_environment(), preexec_fn=die_with_parent)
            if result.returncode != 0:
                sys.exit(1)
            if size > 1:
                tested.wait_equal()


if __name__ == "__main__":
    main()
