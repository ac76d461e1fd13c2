"""Members that come and go: what the tests of membership share."""
import re
import subprocess

from lib.cluster import clean_environment, die_with_parent, wait_until

# How long etcd, and kvd with it, wants members to have been connected before it changes the membership.
SETTLE = 30


def initial_cluster(text):
    return re.search(r'ETCD_INITIAL_CLUSTER="([^"]*)"', text).group(1)


def until_settled(cluster, *args):
    """A change, repeated while it is refused because members have only just connected."""
    def attempt():
        result = cluster.kvctl(*args, check=False)
        if result.returncode != 0 and "unhealthy cluster" in result.stderr:
            return None
        assert result.returncode == 0, f"{args}: {result.stderr}"
        return result.stdout

    return wait_until(f"{args} is accepted", attempt, SETTLE, pause=0.3)


def add(cluster, member, *flags):
    """Adds and starts a member, and waits until it serves (a learner: until it is listed as started)."""
    output = until_settled(cluster, "member", "add", member.name, f"--peer-urls={member.peer_url}", *flags)
    member.joins = initial_cluster(output)
    member.start()
    cluster.members.append(member)
    if "--learner" in flags:
        wait_until(f"{member.name} has started", lambda: member.name in cluster.member_ids(), 60)
    else:
        member.wait_healthy()


def remove(cluster, member):
    """Removes a member and waits for its process, which ends with 0 and says why."""
    identity = cluster.member_ids()[member.name]
    until_settled(cluster, "member", "remove", identity)
    code = member.ended()
    assert code == 0, f"{member.name} ended with {code}:\n{member.log_tail()}"
    assert "the member has been permanently removed from the cluster" in member.log()
    cluster.members.remove(member)


class Walk:
    """kvctl member replace or recover, which waits for the member to be started on the way."""

    def __init__(self, command):
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                                        env=clean_environment(), preexec_fn=die_with_parent)
        self.output = ""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.communicate()

    def settings(self):
        """--initial-cluster for the member to be started."""
        while "ETCD_INITIAL_CLUSTER_STATE" not in self.output:
            line = self.process.stdout.readline()
            assert line, f"it ended early:\n{self.output}"
            self.output += line
        return initial_cluster(self.output)

    def finish(self, timeout=90):
        rest, _ = self.process.communicate(timeout=timeout)
        self.output += rest
        assert self.process.returncode == 0, f"it ended with {self.process.returncode}:\n{self.output}"
        return self.output


def recover(cluster, member, command):
    """Runs a `kvctl member recover` as a message gives it, and starts the member as it says."""
    with Walk(command) as walk:
        member.joins = walk.settings()
        member.start()
        walk.finish()
    member.wait_healthy()
