"""A cluster grows from one member to five and shrinks back under load; learners; quorum lost and found; replacement."""
import os
import re
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from lib import testing
from lib.cluster import Cluster, wait_until
from lib.load import Load
from lib.members import Walk, add, remove, until_settled

NOT_STARTED = "etcdserver: re-configuration failed due to not enough started members"
NOT_IN_SYNC = "etcdserver: can only promote a learner member which is in sync with leader"


def refused(cluster, text, *args):
    result = cluster.kvctl(*args, check=False)
    assert result.returncode == 1 and result.stderr.startswith(f"Error: {text}"), (args, result)
    return result.stderr


def grow_and_shrink(args, program):
    with Cluster(args.implementation, 1) as cluster:
        spares = [cluster.spare(f"m{i}") for i in range(1, 5)]
        # The clients know all that will ever be there, and go on from those that are not.
        cluster.members.extend(spares)
        with Load(program, cluster, clients=16) as load:
            del cluster.members[1:]
            load.run()
            refused(cluster, NOT_STARTED, "member", "remove", cluster.member_ids()["m0"])
            for spare in spares:
                add(cluster, spare)
                testing.step(f"{len(cluster.members)} members")
            load.stop()
            cluster.wait_equal()
            testing.step(f"grown to five; {load.verify(cluster.leader())} writes are there")
            load.run()
            load.mark()
            while len(cluster.members) > 1:
                leader = cluster.leader()
                remove(cluster, leader)
                testing.step(f"the leader {leader.name} is removed; {len(cluster.members)} left")
            pause = load.silence()
            load.stop()
            cluster.wait_equal()
            testing.step(f"shrunk to one; {load.verify(cluster.members[0])} writes are there; longest pause {pause:.2f} s")
            assert pause < 15


def learners(args, program):
    with Cluster(args.implementation, 1, ["--snapshot-count", "500", "--snapshot-catchup-entries", "100"]) as cluster:
        with Load(program, cluster) as load:
            load.count(8000)
        learner = cluster.spare("m1")
        output = until_settled(cluster, "member", "add", "m1", f"--peer-urls={learner.peer_url}", "--learner")
        identity = re.match(r"Member +(\w+) added as learner", output).group(1)
        refused(cluster, "etcdserver: Peer URLs already exists", "member", "add", "again",
                f"--peer-urls={cluster.members[0].peer_url}")
        refused(cluster, "etcdserver: too many learner members in cluster", "member", "add", "m2", "--learner",
                "--peer-urls=http://127.0.0.1:1")
        why = refused(cluster, NOT_IN_SYNC, "member", "promote", identity)
        assert why.strip().endswith(f"{NOT_IN_SYNC}: member {identity} has not started"), why
        refused(cluster, "etcdserver: can only promote a learner member\n", "member", "promote", cluster.member_ids()["m0"])
        learner.joins = re.search(r'ETCD_INITIAL_CLUSTER="([^"]*)"', output).group(1)
        learner.start()
        cluster.members.append(learner)
        wait_until("the learner is promoted", lambda: cluster.kvctl("member", "promote", identity,
                                                                    endpoint=cluster.members[0], check=False).returncode == 0, 60, 0.3)
        assert "received and saved database snapshot" in learner.log(), "it came by log"
        learner.wait_healthy()
        cluster.wait_equal()
        testing.step("a learner came by snapshot and was promoted")
    with Cluster(args.implementation, 1, ["--auto-promote-learners"]) as cluster:
        learner = cluster.spare("m1")
        add(cluster, learner, "--learner")
        wait_until("the learner is promoted by itself", lambda: "true" not in cluster.kvctl("member", "list").stdout, 60, 0.3)
        learner.wait_healthy()
        testing.step("a learner was promoted by itself")


def quorum(args):
    with Cluster(args.implementation, 5) as cluster:
        leader = cluster.leader()
        followers = [m for m in cluster.members if m is not leader]
        cluster.kvctl("put", "a", "1")
        for follower in followers[:2]:
            follower.kill()
        cluster.kvctl("put", "a", "2")
        testing.step("two of five lost: it serves")
        followers[2].kill()
        for member in (leader, followers[3]):
            result = cluster.kvctl("put", "a", "3", "--command-timeout=20s", endpoint=member, check=False)
            assert result.returncode == 1 and "etcdserver: request timed out" in result.stderr, result
            result = cluster.kvctl("get", "a", "--consistency=s", "--print-value-only", endpoint=member)
            assert result.stdout == "2\n", result
        testing.step("three of five lost: it refuses, and reads what it has")
        followers[2].start()
        followers[2].wait_healthy()
        cluster.kvctl("put", "a", "4")
        assert cluster.kvctl("get", "a", "--print-value-only").stdout == "4\n"
        testing.step("one is back: it serves")


def replace(args, program):
    with Cluster(args.implementation, 3) as cluster, Load(program, cluster, clients=8) as load:
        load.run()
        old, new = cluster.leader(), cluster.spare("m3")
        wait_until("the members have settled", lambda: True, 1)
        kvctl = os.path.join(args.bin_dir, "kvctl")
        with Walk([kvctl, "--endpoints", cluster.endpoints, "member", "replace", old.name, "--name=m3",
                   f"--peer-urls={new.peer_url}"]) as walk:
            new.joins = walk.settings()
            new.start()
            walk.finish()
        assert old.ended() == 0
        cluster.members.remove(old)
        cluster.members.append(new)
        new.wait_healthy()
        load.stop()
        cluster.wait_equal()
        assert sorted(cluster.member_ids()) == sorted(m.name for m in cluster.members)
        testing.step(f"the leader is replaced in one step; {load.verify(new)} writes are there")


def main():
    args = testing.arguments(__doc__)
    program = testing.need_helper(args, "conformance_killload")
    testing.need_helper(args, "kvctl")
    learners(args, program)
    quorum(args)
    replace(args, program)
    grow_and_shrink(args, program)


if __name__ == "__main__":
    main()
