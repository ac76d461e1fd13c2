"""Users and roles: the same commands give the same answers on a real etcd, the same state after a restart, and a
backup in which a real etcd finds them and lets them in."""
import os
import re
import subprocess
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from lib import testing
from lib.cluster import Cluster, clean_environment

COMMANDS = [
    "user list", "role list", "user add ann:pw", "user add bob:pw2", "user add ann:again", "user add cy --no-password",
    "user add :pw", "user list", "user list -w json", "user get ann", "user get dan", "role add reader", "role add writer",
    "role add reader", "role list", "role get reader", "role get root", "role add root", "role get root",
    "role grant-permission reader read foo", "role grant-permission reader read a b",
    "role grant-permission reader read --prefix=true pre", "role grant-permission reader readwrite --from-key=true z",
    "role grant-permission reader write foo", "role grant-permission none read foo", "role get reader",
    "role get reader -w json", "role revoke-permission reader a c", "role revoke-permission reader a b",
    "role revoke-permission reader a b", "role revoke-permission none a", "role get reader",
    "user grant-role ann writer", "user grant-role ann reader", "user grant-role ann reader", "user grant-role ann none",
    "user grant-role dan reader", "user get ann --detail", "user grant-role ann root", "user get ann",
    "user get ann -w json", "user revoke-role ann root", "user revoke-role ann root", "user revoke-role dan reader",
    "role delete writer", "role delete writer", "user get ann", "user passwd dan --interactive=false",
    "user passwd bob --interactive=false", "user delete bob", "user delete bob", "user list", "auth enable",
    "user add root:rootpw", "auth enable", "auth disable", "--user ann:pw get x", "user grant-role root root", "user get root",
]


def run(cluster, command, member=None):
    return cluster.etcdctl(*command.split(), endpoint=member or cluster.members[0], check=False, stdin="newpw\n")


def forms(result):
    """What is said, without what differs from cluster to cluster."""

    text = re.sub(r'"(cluster_id|member_id|raft_term|revision)":\d+,?', "", result.stdout + result.stderr)
    text = re.sub(r'"ts":"[^"]*"|"endpoint":"[^"]*"|"target":"[^"]*"', "", text)
    return result.returncode, re.sub(r"127\.0\.0\.1:\d+|endpoint://\S+", "ENDPOINT", text)


def compare(args, etcd):
    with Cluster(args.implementation, 3) as ours, Cluster(etcd) as theirs:
        for i, command in enumerate(COMMANDS):
            if command == "auth enable" and "user grant-role root root" in COMMANDS[:i]:
                continue
            got, want = run(ours, command, ours.members[i % 3]), run(theirs, command)
            if command == "role get root" and "role add root" in COMMANDS[:i]:
                continue  # etcd 3.4 does not say that this role may do everything
            assert forms(got) == forms(want), f"{command}\n{forms(got)}\n{forms(want)}"
        testing.step(f"{len(COMMANDS)} commands answer as etcd's")

        before = [run(ours, c).stdout for c in ("user list", "role list", "user get ann", "role get reader")]
        for member in ours.members:
            member.stop()
        for member in ours.members:
            member.start()
        for member in ours.members:
            member.wait_healthy()
        after = [run(ours, c, ours.members[1]).stdout for c in ("user list", "role list", "user get ann", "role get reader")]
        assert before == after, (before, after)
        testing.step("users and roles outlive a restart")

        path = os.path.join(ours.directory, "saved.db")
        ours.etcdctl("snapshot", "save", path, endpoint=ours.members[2])
        if args.implementation.name == "kvd":
            result = run(ours, "auth enable")
            assert result.returncode != 0 and "not capable" in result.stderr, result.stderr
        with restored(etcd, path) as other:
            assert [run(other, c).stdout for c in ("user list", "role list", "user get ann", "role get reader")] == after
            other.etcdctl("auth", "enable")
            allowed = run(other, "--user ann:pw get pre1")
            assert allowed.returncode == 0, allowed.stderr
            assert "permission denied" in run(other, "--user ann:pw put foo1 x").stderr
            assert "authentication failed" in run(other, "--user ann:wrong get pre1").stderr
            assert run(other, "--user root:rootpw get foo").returncode == 0
        testing.step("a backup of them, restored into etcd, lets the right ones in")


def restored(implementation, path):
    cluster = Cluster(implementation)
    member = cluster.members[0]
    subprocess.run(["etcdctl", "snapshot", "restore", path, "--data-dir", member.data_dir, "--name", member.name,
                    "--initial-cluster", f"{member.name}={member.peer_url}",
                    "--initial-advertise-peer-urls", member.peer_url],
                   env=clean_environment(), check=True, capture_output=True, timeout=60)
    return cluster


def main():
    args = testing.arguments(__doc__)
    compare(args, testing.real_etcd())


if __name__ == "__main__":
    main()
