"""What happens to a member's data, and how the member comes back: each row of the table in docs/recovery.md."""
import os
import re
import shutil
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from lib import testing
from lib.cluster import Cluster
from lib.load import Load
from lib.members import recover


def inside(member, *path):
    return os.path.join(member.data_dir, "member", *path)


def refuses(member, *texts):
    """Starts the member, which stops with code 1 and one message with all of `texts`; returns that."""
    seen = len(member.log())
    member.start()
    assert member.ended() == 1, member.log_tail()
    fatal = [line for line in member.log()[seen:].splitlines() if '"level":"fatal"' in line]
    assert len(fatal) == 1, member.log_tail()
    for text in texts:
        assert text in fatal[0], f"{text!r} is not in {fatal[0]}"
    return fatal[0]


def follow(args, cluster, member, message):
    """The command of the message brings the member back; its data are whole."""
    command = re.search(r"`(kvctl [^`]*member recover[^`]*)`", message).group(1)
    command = command.replace("CLIENT-URL-OF-ANOTHER-MEMBER", ",".join(m.client_url for m in cluster.members if m.alive()))
    words = command.split()
    words[0] = os.path.join(args.bin_dir, "kvctl")
    recover(cluster, member, words)
    cluster.wait_equal()


def back(cluster, member, line):
    """The member starts by itself, says `line`, and its data are whole."""
    seen = len(member.log())
    member.start()
    member.wait_healthy()
    assert line in member.log()[seen:], f"{line!r} is not in the log:\n{member.log_tail()}"
    cluster.wait_equal()


def overwrite(path, offset, data):
    with open(path, "r+b") as file:
        file.seek(offset)
        file.write(data)


def in_use(path):
    """Bytes of a segment up to its last record."""
    with open(path, "rb") as file:
        return len(file.read().rstrip(b"\0"))


def of_the_log(args, cluster):
    """Damage to the log of one of three."""
    damages = {
        "> on the only segment": lambda path: os.truncate(path, 0),
        "a segment of zeros": lambda path: overwrite(path, 0, bytes(os.path.getsize(path))),
        "a segment cut in half": lambda path: os.truncate(path, in_use(path) // 2),
        "rot in the middle": lambda path: overwrite(path, in_use(path) // 2, b"\xde\xad\xbe\xef"),
    }
    for what, damage in damages.items():
        member = cluster.follower()
        member.stop()
        path = member.wal()[-1]
        damage(path)
        message = refuses(member, path, "The file is left as it is", "member recover " + member.name)
        follow(args, cluster, member, message)
        testing.step(f"{what}: stopped, recovered")

    member = cluster.follower()
    member.stop()
    shutil.rmtree(inside(member, "wal"))
    message = refuses(member, "the log in", "is missing", "member recover " + member.name)
    follow(args, cluster, member, message)
    testing.step("the log lost, rocksdb whole: stopped, recovered")

    member = cluster.follower()
    member.kill()
    path = member.wal()[-1]
    overwrite(path, in_use(path), b"\x40\x00\x00\x00\x00\x00\x00\x84torn")
    back(cluster, member, "repaired the torn end")
    testing.step("a torn end: repaired")


def of_the_database(args, cluster, load):
    member = cluster.follower()
    member.stop()
    shutil.rmtree(inside(member, "rocksdb"))
    back(cluster, member, "building it again from the log")
    testing.step("rocksdb lost, the log whole: built again")

    member = cluster.follower()
    member.stop()
    for name in os.listdir(inside(member, "rocksdb")):
        if name != "ACTIVE":
            shutil.rmtree(inside(member, "rocksdb", name))
    back(cluster, member, "building it again from the log")
    testing.step("the database in rocksdb lost, the log whole: built again")

    # A member that came by snapshot has no log from the first entry on.
    member = cluster.follower()
    member.stop()
    first = member.wal()[0]
    os.rename(first, first.replace("wal/0000000000000000-0000000000000000", "wal/0000000000000003-0000000000000100"))
    shutil.rmtree(inside(member, "rocksdb"))
    message = refuses(member, "of the backend is missing", "does not reach back to the first entry",
                      "member recover " + member.name)
    follow(args, cluster, member, message)
    testing.step("rocksdb lost, the log cut: stopped, recovered")


def of_the_directory(args, cluster):
    member = cluster.follower()
    for state in ("existing", "new"):
        joins = ",".join(f"{m.name}={m.peer_url}" for m in cluster.members)
        member.stop()
        shutil.rmtree(member.data_dir)
        member.joins = joins if state == "existing" else None
        message = refuses(member, "has already been bootstrapped", "member recover " + member.name)
        follow(args, cluster, member, message)
        testing.step(f"the data directory lost, state {state}: stopped, recovered")

    member = cluster.follower()
    member.stop()
    member.extra_args = ["--name", "renamed"]
    member.start()
    member.wait_healthy()
    assert "renamed" in cluster.member_ids()
    member.stop()
    member.extra_args = []
    member.start()
    member.wait_healthy()
    assert member.name in cluster.member_ids()
    testing.step("another name: started, and known under it")

    member.stop()
    old_port, member.peer_port = member.peer_port, cluster.spare("x").peer_port
    member.joins = ",".join(f"{m.name}={m.peer_url}" for m in cluster.members)
    seen = len(member.log())
    member.start()
    member.wait_healthy()
    warning = next(line for line in member.log()[seen:].splitlines() if "advertises other peer URLs" in line)
    command = re.search(r'"command":"kvctl ([^"]*)"', warning).group(1)
    cluster.kvctl(*command.split())
    assert member.peer_url in cluster.kvctl("member", "list").stdout and f":{old_port}," not in cluster.kvctl("member", "list").stdout
    cluster.wait_equal()
    testing.step("other peer URLs: started, with the command that tells the others")


def of_a_later_program(cluster):
    member = cluster.follower()
    member.stop()
    path = inside(member, "version")
    with open(path) as file:
        ours = file.read()
    later = re.sub(r"(?m)^kvd .*$", "kvd 99.0.0", re.sub(r"(?m)^format .*$", "format 99", ours))
    with open(path, "w") as file:
        file.write(later)
    refuses(member, "were last written by kvd 99.0.0 in format 99", "start kvd 99.0.0 or newer")
    with open(path) as file:
        assert file.read() == later, "the refused start has written"
    with open(path, "w") as file:
        file.write(ours)
    member.start()
    member.wait_healthy()
    cluster.wait_equal()
    testing.step("data of a later kvd: stopped, nothing changed")


def of_another_cluster(args, cluster):
    with Cluster(args.implementation, 3) as other:
        foreign = other.members[0]
        foreign.stop()
        member = cluster.follower()
        member.stop()
        kept = member.data_dir + ".kept"
        os.rename(member.data_dir, kept)
        shutil.copytree(foreign.data_dir, member.data_dir)
        message = refuses(member, "--initial-cluster names other members", "--data-dir is wrong")
        assert "member recover " + member.name in message
        shutil.rmtree(member.data_dir)
        os.rename(kept, member.data_dir)
        member.start()
        member.wait_healthy()
        testing.step("the data directory of another cluster: stopped; with its own it starts")

        # The same machines, and a cluster that was made anew.
        kept = foreign.data_dir + ".old"
        shutil.copytree(foreign.data_dir, kept)
        for left in other.members[1:]:
            left.stop()
        for again in other.members:
            shutil.rmtree(again.data_dir)
            again.extra_args = ["--initial-cluster-token", "anew"]
            again.start()
        for again in other.members:
            again.wait_healthy()
        foreign.stop()
        own = foreign.data_dir + ".own"
        os.rename(foreign.data_dir, own)
        os.rename(kept, foreign.data_dir)
        message = refuses(foreign, "the other members belong to another cluster", "member recover " + foreign.name)
        follow(args, other, foreign, message)
        testing.step("the data directory of an earlier cluster: stopped, recovered")


def alone(args, program):
    with Cluster(args.implementation, 3) as cluster:
        with Load(program, cluster, clients=8) as load:
            load.count(2000)
            cluster.wait_equal()
            left = cluster.members[0]
            for member in cluster.members[1:]:
                member.kill()
            left.kill()
            left.extra_args = ["--force-new-cluster"]
            left.start()
            left.wait_healthy()
            assert list(cluster.member_ids(left)) == [left.name], cluster.member_ids(left)
            assert load.verify(left) >= 2000
            testing.step("--force-new-cluster: two of three lost, the third serves alone with all its data")
            left.stop()
            left.extra_args = []
            left.start()
            left.wait_healthy()
            cluster.kvctl("put", "after", "1")
            left.stop()
            shutil.rmtree(inside(left, "wal"))
            refuses(left, "the log in", "is missing", "--force-new-cluster")
            left.extra_args = ["--force-new-cluster"]
            left.start()
            left.wait_healthy()
            cluster.kvctl("put", "after", "2")
            testing.step("the only member without its log: stopped; --force-new-cluster goes on with what the database holds")


def main():
    args = testing.arguments(__doc__)
    program = testing.need_helper(args, "conformance_killload")
    testing.need_helper(args, "kvctl")
    alone(args, program)
    with Cluster(args.implementation, 3) as cluster, Load(program, cluster, clients=8) as load:
        load.count(2000)
        of_the_database(args, cluster, load)
        of_the_log(args, cluster)
        of_the_directory(args, cluster)
        of_a_later_program(cluster)
        for member in cluster.members:
            load.verify(member)
        of_another_cluster(args, cluster)


if __name__ == "__main__":
    main()
