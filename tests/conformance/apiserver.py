"""What kube-apiserver sends, in its exact request shapes, to one and to three members."""
import os
import subprocess
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from lib import testing
from lib.cluster import Cluster, clean_environment, die_with_parent


def main():
    args = testing.arguments(__doc__)
    program = testing.need_helper(args, "conformance_apiserver")
    for size in (1, 3):
        with Cluster(args.implementation, size) as cluster:
            cluster.leader()
            subprocess.run([program, cluster.endpoints], check=True, timeout=200, env=clean_environment(),
                           preexec_fn=die_with_parent)
            if size > 1:
                cluster.wait_equal()
            testing.step(f"{size} members")


if __name__ == "__main__":
    main()
