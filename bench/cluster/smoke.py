#!/usr/bin/env python3
"""Every subcommand of kvbench, for a moment, against one kvd (--impl etcd: an etcd): it ends well, all of its answers
were right, and something was done. Speed is not looked at.
"""
import json
import os
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "tests", "conformance"))
from lib import testing  # noqa: E402
from lib.cluster import Cluster  # noqa: E402

KEYS = 2000
BRIEF = ["--seconds", "0.5", "--warmup", "0.1"]
SMALL = ["--keys", str(KEYS), "--value", "100"]

# Subcommand, options, the figure that must be above zero.
RUNS = [
    ("ready", ["--timeout", "20"], "served"),
    ("fill", [*SMALL, "--series", "0.1"], "revision"),
    ("put", [*SMALL, *BRIEF], "operations"),
    ("put", [*SMALL, *BRIEF, "--sequential", "--rate", "200"], "operations"),
    ("put", ["--keys", str(KEYS), "--value", "65536", *BRIEF, "--connections", "2", "--streams", "2"], "operations"),
    ("fill", [*SMALL, "--batch", "64"], "operations"),
    ("get", [*SMALL, *BRIEF], "operations"),
    ("get", [*SMALL, *BRIEF, "--serializable"], "operations"),
    ("txn", [*SMALL, *BRIEF, "--operations", "100"], "operations"),
    ("list", ["--keys", str(KEYS), *BRIEF], "lists"),
    ("list", ["--keys", str(KEYS), *BRIEF, "--shape", "paged", "--page", "300", "--streams", "2"], "lists"),
    ("list", ["--keys", str(KEYS), *BRIEF, "--shape", "stream"], "lists"),
    ("list", ["--keys", str(KEYS), *BRIEF, "--shape", "keys"], "lists"),
    ("list", ["--keys", str(KEYS), *BRIEF, "--shape", "count"], "lists"),
    ("slow-reader", ["--keys", str(KEYS), "--seconds", "0.5"], "peak_mib"),
    ("lease-grant", ["--count", "500"], "operations"),
    ("keepalive", ["--leases", "500", *BRIEF], "operations"),
    ("watch", ["--watchers", "300", "--keys", "1", *BRIEF], "operations"),
    ("watch", ["--watchers", "300", "--keys", "7", "--rate", "100", *BRIEF], "operations"),
    ("during", [*SMALL, *BRIEF, "--rate", "200", "--activity", "list"], "operations"),
    ("during", [*SMALL, *BRIEF, "--rate", "200", "--activity", "snapshot"], "operations"),
    ("during", [*SMALL, *BRIEF, "--rate", "200", "--activity", "compact", "--every", "0.2"], "operations"),
    ("gap", ["--seconds", "0.5"], "operations"),
    ("idle", ["--connections", "50", *BRIEF], "connections"),
]
ONLY_KVD = {("list", "stream")}


def run(kvbench, cluster, command, options):
    pids = ",".join(str(member.process.pid) for member in cluster.members)
    words = [kvbench, command, "--endpoints", cluster.endpoints, "--pids", pids, *options]
    result = subprocess.run(words, capture_output=True, text=True, timeout=60)
    assert result.returncode == 0, f"{' '.join(words)} ended with {result.returncode}: {result.stderr}"
    return json.loads(result.stdout)


def check(words, report, figure):
    assert report[figure] > 0, f"{words}: {figure} of {report}"
    for count in ("errors", "rest_errors", "missing"):
        assert report.get(count, 0) <= 0, f"{words}: {count} in {report}"
    if "p50_us" in report:
        assert 0 < report["p50_us"] <= report["p99_us"] <= report["p999_us"] <= report["max_us"], report


def refuses(kvbench, cluster):
    """What is wrong is said, not measured."""
    for words in (["no-such-thing"], ["put", "--endpoints", cluster.endpoints, "--no-such-option", "1"],
                  ["put", "--endpoints", "127.0.0.1:1"], ["put"],
                  ["put", "--endpoints", cluster.endpoints, "--keys", "many"]):
        result = subprocess.run([kvbench, *words], capture_output=True, text=True, timeout=60)
        assert result.returncode != 0 and result.stderr, words
    wrong = run(kvbench, cluster, "list", ["--keys", str(KEYS + 1), *BRIEF])
    assert wrong["errors"] > 0 and wrong["operations"] == 0, wrong


def main():
    args = testing.arguments(__doc__)
    kvbench = testing.need_helper(args, "kvbench")
    with Cluster(args.implementation, 1, ["--log-level", "error"]) as cluster:
        for command, options, figure in RUNS:
            if args.implementation.name != "kvd" and (command, options[-1]) in ONLY_KVD:
                continue
            if command == "keepalive" or command == "lease-grant":
                options = [*options, "--first", "1000"]
            check(f"{command} {' '.join(options)}", run(kvbench, cluster, command, options), figure)
            testing.step(f"{command} {' '.join(options)}")
        revision = cluster.members[0].status()["header"]["revision"]
        run(kvbench, cluster, "fill", SMALL)
        caught_up = run(kvbench, cluster, "catch-up", ["--from", str(revision + 1), "--events", str(KEYS)])
        assert caught_up["operations"] == KEYS, caught_up
        refuses(kvbench, cluster)


if __name__ == "__main__":
    main()
