"""More than ordinary clients do: very many watchers, a reader that stops, a list of a gigabyte, a million leases.

By itself a short version; --full for the real sizes (make scale), which takes a quarter of an hour.
"""
import os
import subprocess
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from lib import testing
from lib.cluster import Cluster, clean_environment, die_with_parent

SHORT = {
    "watchers": {"streams": 50, "watchers-per-stream": 20, "writes-per-second": 500, "seconds": 3},
    "slow-reader": {"bytes": 48 << 20, "value-bytes": 16384, "seconds": 3},
    "list": {"keys": 48 << 10, "value-bytes": 1024, "writes-per-second": 300, "rest-seconds": 2,
             "list-bytes-per-second": 20 << 20},
    "leases": {"leases": 5000, "ttl": 4},
}
FULL = {
    "watchers": {"streams": 1000, "watchers-per-stream": 100, "writes-per-second": 2000, "seconds": 60},
    "slow-reader": {"bytes": 1 << 30, "value-bytes": 16384, "seconds": 60},
    "list": {"keys": 1 << 20, "value-bytes": 1000, "writes-per-second": 500, "rest-seconds": 20,
             "list-bytes-per-second": 25 << 20},
    "leases": {"leases": 1_000_000, "ttl": 120},
}


# A request may be no longer than this, and so may a chunk of a streamed list.
SERVER_ARGS = {"list": ["--max-request-bytes", "20000"]}


def run(args, mode, sizes, server_args):
    program = testing.need_helper(args, "conformance_scale")
    with Cluster(args.implementation, 1, ["--quota-backend-bytes", str(16 << 30), *server_args]) as cluster:
        member = cluster.members[0]
        command = [program, mode, f"endpoint={member.endpoint}", f"pid={member.process.pid}",
                   *(f"{name}={value}" for name, value in sizes.items())]
        done = subprocess.run(command, env=clean_environment(), preexec_fn=die_with_parent, timeout=900)
        assert done.returncode == 0, f"{mode} ended with {done.returncode}"
        assert member.alive(), member.log_tail()
        testing.step(mode)


def main():
    modes, full = [], False
    rest = []
    for argument in sys.argv[1:]:
        if argument == "--full":
            full = True
        elif argument.startswith("--mode="):
            modes.append(argument[len("--mode="):])
        else:
            rest.append(argument)
    sys.argv[1:] = rest
    args = testing.arguments(__doc__)
    sizes = FULL if full else SHORT
    for mode in modes or sizes:
        run(args, mode, sizes[mode], [] if full else SERVER_ARGS.get(mode, []))


if __name__ == "__main__":
    main()
