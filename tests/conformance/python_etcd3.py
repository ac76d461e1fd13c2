"""A program on python3-etcd3: put, get, transactions, watches, leases and locks."""
import os
import sys
import threading

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from lib import testing
from lib.cluster import Cluster

try:
    import etcd3
except ImportError:
    etcd3 = None


def basics(client):
    client.put("/app/name", "kvd")
    value, metadata = client.get("/app/name")
    assert value == b"kvd" and metadata.version == 1 and metadata.key == b"/app/name", (value, metadata)
    assert client.get("/app/none") == (None, None)
    previous = client.put("/app/name", "again", prev_kv=True)
    assert previous.prev_kv.value == b"kvd", previous
    for i in range(20):
        client.put(f"/list/{i:02d}", str(i))
    found = [(m.key, v) for v, m in client.get_prefix("/list/")]
    assert found == [(b"/list/%02d" % i, b"%d" % i) for i in range(20)], found
    down = [m.key for _, m in client.get_prefix("/list/", sort_order="descend")]
    assert down == [b"/list/%02d" % i for i in reversed(range(20))], down
    assert [v for v, _ in client.get_range("/list/05", "/list/08")] == [b"5", b"6", b"7"]
    assert client.delete("/list/00") and not client.delete("/list/00")
    assert client.delete_prefix("/list/").deleted == 19
    assert client.replace("/app/name", "again", "more") and not client.replace("/app/name", "again", "more")
    assert client.put_if_not_exists("/app/new", "1") and not client.put_if_not_exists("/app/new", "2")


def transactions(client):
    t = client.transactions
    done, responses = client.transaction(
        compare=[t.value("/app/new") == "1", t.version("/app/new") > 0, t.version("/app/gone") == 0],
        success=[t.put("/app/new", "2"), t.get("/app/new"), t.delete("/app/name")],
        failure=[t.put("/app/new", "failed")])
    assert done and responses[1][0][0] == b"2", (done, responses)
    done, _ = client.transaction(compare=[t.value("/app/new") == "1"], success=[t.put("/app/new", "no")],
                                 failure=[t.put("/app/new", "3")])
    assert not done and client.get("/app/new")[0] == b"3"


def watches(client):
    seen, complete = [], threading.Event()

    def on_event(response):
        for event in response.events:
            seen.append((type(event).__name__, event.key, event.value))
        if len(seen) >= 3:
            complete.set()

    watch_id = client.add_watch_prefix_callback("/watch/", on_event)
    client.put("/watch/a", "1")
    client.put("/elsewhere", "1")
    client.put("/watch/b", "2")
    client.delete("/watch/a")
    assert complete.wait(20), seen
    client.cancel_watch(watch_id)
    assert seen == [("PutEvent", b"/watch/a", b"1"), ("PutEvent", b"/watch/b", b"2"),
                    ("DeleteEvent", b"/watch/a", b"")], seen
    # From the past.
    revision = client.get("/watch/b")[1].mod_revision
    events, cancel = client.watch("/watch/b", start_revision=revision)
    event = next(events)
    assert event.value == b"2" and event.mod_revision == revision
    cancel()


def leases(client):
    lease = client.lease(60)
    client.put("/leased", "v", lease)
    assert client.get("/leased")[1].lease_id == lease.id
    assert lease.granted_ttl == 60 and 0 < lease.remaining_ttl <= 60 and lease.keys == [b"/leased"]
    assert [response.TTL for response in lease.refresh()] == [60]
    lease.revoke()
    assert client.get("/leased")[0] is None
    short = client.lease(2)
    client.put("/short", "v", short)
    gone = threading.Event()
    client.add_watch_callback("/short", lambda response: gone.set())
    assert gone.wait(20), "a lease of 2 s still lives after 20 s"
    with client.lock("door", ttl=20) as lock:
        assert lock.is_acquired()


def cluster_calls(client, size):
    members = list(client.members)
    assert len(members) == size, members
    status = client.status()
    assert status.version and status.leader is not None and status.db_size > 0
    assert not list(client.list_alarms())
    revision = client.get("/app/new")[1].mod_revision
    client.compact(revision)


def ignore_closed_channel(arguments):
    """The library's watch threads notice only by an exception that their client has been closed."""
    if not isinstance(arguments.exc_value, ValueError):
        threading.__excepthook__(arguments)


def main():
    threading.excepthook = ignore_closed_channel
    args = testing.arguments(__doc__)
    if etcd3 is None:
        testing.skip("there is no python3-etcd3")
    for size in (1, 3):
        with Cluster(args.implementation, size) as cluster:
            for member in {cluster.leader(), cluster.members[-1]}:
                client = etcd3.client(port=member.client_port, timeout=20)
                for run in (basics, transactions, watches, leases):
                    run(client)
                cluster_calls(client, size)
                client.delete_prefix("/")
                client.close()
                testing.step(f"{args.impl}, {size} members, {member.name}")


if __name__ == "__main__":
    main()
