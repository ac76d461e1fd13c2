"""kvctl shows what etcdctl shows, of the same server; also when an endpoint does not answer."""
import os
import re
import subprocess
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from lib import testing
from lib.cluster import Cluster, clean_environment, die_with_parent, free_port

# Reads, wrong requests and wrong words: they leave the store as it is, so both programs can ask one after the other.
COMMANDS = [
    ["get", "k/1"], ["get", "k/", "--prefix"], ["get", "k/", "--prefix", "--keys-only"], ["get", "k/", "--prefix", "--hex"],
    ["get", "k/3", "--from-key", "--limit", "2"], ["get", "k/1", "k/3"], ["get", "", "--prefix", "--order", "DESCEND"],
    ["get", "k/", "--prefix", "--sort-by", "MODIFY", "--order", "ASCEND"], ["get", "k/1", "--rev", "3"],
    ["get", "k/", "--prefix", "--consistency", "s"], ["get", "missing"], ["get", "binary"],
    ["get", "k/1", "--rev", "100000"], ["get", ""], ["get"], ["get", "a", "b", "--prefix"], ["get", "a", "--order", "up"],
    ["get", "a", "--sort-by", "size"], ["get", "a", "--consistency", "x"], ["get", "a", "--prefix", "--from-key"],
    ["put"], ["put", "k", "--lease", "zz"], ["put", "none", "--ignore-value"], ["put", "k", "v", "--lease", "123456"],
    ["del"], ["del", "missing"], ["del", "missing", "--prev-kv"],
    ["lease", "timetolive", "123456"], ["lease", "timetolive"], ["lease", "timetolive", "zz"], ["lease", "grant"],
    ["lease", "grant", "x"], ["lease", "revoke", "123456"], ["lease", "keep-alive", "--once", "123456"],
    ["lease", "list"], ["lease", "timetolive", "LEASE", "--keys"], ["compaction"], ["compaction", "100000"],
    ["member", "add"], ["member", "add", "x"], ["member", "add", "x", "http://127.0.0.1:1"],
    ["member", "add", "x", "--peer-urls=bad"], ["member", "remove"], ["member", "remove", "zz"], ["member", "remove", "123"],
    ["member", "update", "123"], ["member", "update", "123", "--peer-urls=http://127.0.0.1:1"],
    ["member", "promote", "123"], ["move-leader"], ["move-leader", "zz"], ["move-leader", "123"], ["snapshot", "save"],
    ["lock"], ["lock", "l", "true"], ["lock", "l", "false"], ["elect"], ["elect", "x"], ["elect", "x", "y", "-l"],
    ["member", "list"], ["alarm", "list"], ["endpoint", "health"], ["endpoint", "hashkv"], ["endpoint", "status"],
]
INPUTS = [
    'mod("k/1") > "0"\n\nget k/1\nget k/ --prefix --keys-only\n\nput never 1\n\n', '\n\n\n', "bogus\n", "\nbogus x\n",
    'value("k/1") = "no"\n\n\ndel missing\n\n', '\nput "a\n', 'size("k") = "1"\n',
]
FORMATS = ("simple", "fields", "json")
# Where API levels differ in what they show.
NEWER = {"endpoint": ("simple", "fields"), "alarm": ("fields",), "member": ("fields",)}


def normalise(text):
    text = re.sub(r"took = \S+|\"Took\" : \S+|\"took\":\"[^\"]+\"", "TOOK", text)
    text = re.sub(r"\"(raftIndex|raftAppliedIndex)\":\d+", "INDEX", text)
    # 3.6 hides the revision where there is none, and names a oneof's members as the proto file does.
    text = re.sub(r"\"Revision\" : 0\n", "", text)
    for name in ("Put", "Range", "DeleteRange"):
        snake = re.sub(r"(?<!^)([A-Z])", r"_\1", name).lower()
        text = text.replace(f'"Response{name}":', f'"response_{snake}":')
    text = re.sub(r"remaining\(\d+s\)|\"TTL\" : \d+|\"ttl\":\d+", "REMAINING", text)
    return "\n".join(line for line in text.splitlines() if not line.startswith('{"level"')).strip()


def run(program, endpoints, words, stdin=""):
    result = subprocess.run([program, "--endpoints", endpoints, *words], input=stdin, capture_output=True, text=True,
                            timeout=30, env=clean_environment())
    return normalise(result.stdout), normalise(result.stderr), result.returncode


def compare(kvctl, cluster, lease):
    differences = 0
    for output in FORMATS:
        for words, stdin in [(c, "") for c in COMMANDS] + [(["txn"], text) for text in INPUTS] + [(["txn", "-i"], INPUTS[0])]:
            if output in NEWER.get(words[0], ()) and words[1:2] and words[1] in ("status", "hashkv", "list"):
                continue
            if output == "fields" and "--hex" in words:
                continue
            if cluster.implementation.name == "kvd" and words[0] == "endpoint" and words[1] != "health":
                # etcdctl 3.4 passes over the newer fields of the answer.
                continue
            words = [lease if word == "LEASE" else word for word in words] + ["-w", output]
            expected = run("etcdctl", cluster.endpoints, words, stdin)
            actual = run(kvctl, cluster.endpoints, words, stdin)
            if words[:2] == ["endpoint", "health"]:
                # 3.4 tells of healthy ones on stderr.
                expected, actual = (("".join(result[:2]), result[2]) for result in (expected, actual))
            if expected != actual:
                differences += 1
                print(f"{' '.join(words)} {stdin!r}\n  etcdctl: {expected}\n  kvctl:   {actual}")
    assert differences == 0, f"{differences} commands differ"


def changes(kvctl, cluster):
    """What changes the cluster, by each program in turn; IDs, sizes and times differ."""
    def unstarted():
        listed = run(kvctl, cluster.endpoints, ["member", "list"])[0].splitlines()
        return next((line.split(",")[0] for line in listed if "unstarted" in line), "")

    self_id = run(kvctl, cluster.endpoints, ["member", "list"])[0].split(",")[0]
    backup = os.path.join(cluster.directory, "backup.db")
    commands = ["member add l --learner --peer-urls=http://127.0.0.1:1", "member add m --learner --peer-urls=http://127.0.0.1:2",
                "member update ID --peer-urls=http://127.0.0.1:3", "member update ID --peer-urls=http://127.0.0.1:3 -w json",
                "member update ID --peer-urls=http://127.0.0.1:3 -w fields", "member update ID --peer-urls=http://127.0.0.1:3 -w table",
                "member remove ID", "member add l --learner --peer-urls=http://127.0.0.1:4 -w json", "member remove ID -w json",
                f"move-leader {self_id}", f"move-leader {self_id} -w json", f"move-leader {self_id} -w fields", "defrag",
                f"snapshot save {backup}"]
    seen = []
    for program in ("etcdctl", kvctl):
        results = []
        for command in commands:
            out, err, code = run(program, cluster.endpoints, command.replace("ID", unstarted()).split())
            # 3.6 says that a learner was added, how long it took and which version saved the backup.
            out = out.replace("added as learner to", "added to")
            out = re.sub(r"\. took \S+|\nServer version \S+", "", out)
            # IDs are padded with blanks.
            out = re.sub(r' *\b[0-9a-f]{14,16}\b|"(ID|member_id)":\d+', "ID", out)
            # The members come in the order of their IDs.
            results.append((command, sorted(re.split(r'[\[\]{},"]', out)), err, code))
        seen.append(results)
    for expected, actual in zip(*seen):
        assert expected == actual, f"etcdctl: {expected}\nkvctl:   {actual}"
    for output in ("simple", "json", "table", "fields"):
        expected, actual = (run(p, cluster.endpoints, ["snapshot", "status", backup, "-w", output]) for p in ("etcdctl", kvctl))
        assert expected == actual, f"etcdctl: {expected}\nkvctl:   {actual}"


def locks(kvctl, cluster):
    """A second holder waits for the first; the holder's key is shown; a signal ends it and frees the lock."""
    def start(*words):
        return subprocess.Popen([kvctl, "--endpoints", cluster.endpoints, *words], stdout=subprocess.PIPE, text=True,
                                env=clean_environment(), preexec_fn=die_with_parent)

    holder = start("lock", "mutex")
    try:
        assert holder.stdout.readline().startswith("mutex/")
        waiter = start("lock", "mutex", "sh", "--", "-c", "echo $ETCD_LOCK_KEY $ETCD_LOCK_REV")
        try:
            assert waiter.poll() is None
            holder.terminate()
            assert holder.wait(20) == 0
            assert re.match(r"mutex/[0-9a-f]+ \d+$", waiter.stdout.readline().strip())
            assert waiter.wait(20) == 0
        finally:
            waiter.kill()
            waiter.communicate()
    finally:
        holder.kill()
        holder.communicate()
    listener, leader = start("elect", "-l", "office"), start("elect", "office", "first")
    try:
        assert leader.stdout.readline().startswith("office/") and leader.stdout.readline() == "first\n"
        assert listener.stdout.readline().startswith("office/") and listener.stdout.readline() == "first\n"
        leader.terminate()
        assert leader.wait(20) == 0
        listener.terminate()
        assert listener.wait(20) == 0
    finally:
        for process in (listener, leader):
            process.kill()
            process.communicate()


def failover(kvctl, cluster):
    dead = f"127.0.0.1:{free_port()}"
    for endpoints in (f"{dead},{cluster.endpoints}", f"{cluster.endpoints},{dead}"):
        assert run(kvctl, endpoints, ["put", "failover", "1"])[0] == "OK"
        assert run(kvctl, endpoints, ["get", "failover", "--print-value-only"])[0] == "1"
    out, err, code = run(kvctl, f"{cluster.endpoints},{dead}", ["endpoint", "health", "--command-timeout=1s"])
    assert code == 1 and "is healthy" in out and f"{dead} is unhealthy" in err and "unhealthy cluster" in err, (out, err)
    assert run(kvctl, dead, ["get", "a", "--command-timeout=1s"]) == ("", "Error: context deadline exceeded", 1)


def watch_survives(kvctl, cluster):
    """A watch goes on at another member when its own dies, and misses nothing."""
    first = cluster.members[0]
    order = ",".join(m.endpoint for m in cluster.members)
    process = subprocess.Popen([kvctl, "--endpoints", order, "watch", "w/", "--prefix", "--rev", "1", "-w", "simple"],
                               stdout=subprocess.PIPE, text=True, env=clean_environment())
    try:
        alive = cluster.members[1]
        for i in range(3):
            cluster.etcdctl("put", f"w/{i}", str(i), endpoint=alive)
        assert [process.stdout.readline().strip() for _ in range(9)][1::3] == ["w/0", "w/1", "w/2"]
        first.kill()
        cluster.leader()
        for i in range(3, 6):
            cluster.etcdctl("put", f"w/{i}", str(i), endpoint=alive)
        assert [process.stdout.readline().strip() for _ in range(9)][1::3] == ["w/3", "w/4", "w/5"]
    finally:
        process.kill()
        process.communicate()


def main():
    args = testing.arguments(__doc__)
    kvctl = testing.need_helper(args, "kvctl")
    with Cluster(args.implementation, 1) as cluster:
        for i in range(6):
            cluster.etcdctl("put", f"k/{i}", f"value {i}")
        cluster.etcdctl("put", "k/1", "twice")
        cluster.etcdctl("put", "binary", 'tab\t"quotes" \\ é \x01')
        lease = cluster.etcdctl("lease", "grant", "1000").stdout.split()[1]
        cluster.etcdctl("put", "leased", "v", "--lease", lease)
        compare(kvctl, cluster, lease)
        testing.step("the same output as etcdctl's")
        changes(kvctl, cluster)
        locks(kvctl, cluster)
        testing.step("members, leadership, backups, locks and elections")
        failover(kvctl, cluster)
        testing.step("failover")
    with Cluster(args.implementation, 3) as cluster:
        watch_survives(kvctl, cluster)
        testing.step("a watch outlives its member")


if __name__ == "__main__":
    main()
