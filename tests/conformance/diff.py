"""The same random programs on a real etcd and on the server under test: equal answers, errors, events and HashKV."""
import concurrent.futures
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
    # A program mostly waits for its watches, so a long comparison is made by several pairs of clusters at a time.
    pairs = min(4, max(1, operations // 100_000))

    def compare(size, count, first):
        with Cluster(etcd, 1) as reference, Cluster(args.implementation, size) as tested:
            endpoints = (reference.members[0].endpoint, tested.follower().endpoint if size > 1 else tested.endpoints)
            result = subprocess.run([program, *endpoints, str(count), str(first)], env=clean_environment(),
                                    preexec_fn=die_with_parent, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
            sys.stdout.write(result.stdout.decode(errors="replace"))
            sys.stdout.flush()
            if result.returncode == 0 and size > 1:
                tested.wait_equal()
            return result.returncode == 0

    for size, share in ((1, 1), (3, 10)):
        testing.step(f"DIFF_SEED={seed}, {operations // share} operations, {size} members, {pairs} at a time")
        count = operations // share // pairs
        with concurrent.futures.ThreadPoolExecutor(pairs) as pool:
            # Far apart: a run draws its programs from consecutive seeds.
            runs = [pool.submit(compare, size, count, (seed + i * 1_000_000) % 2**32) for i in range(pairs)]
            if not all([run.result() for run in runs]):
                sys.exit(1)


if __name__ == "__main__":
    main()
