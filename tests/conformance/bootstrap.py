"""Three members find one another, and end in "cluster is healthy": one way a run.

    tests/conformance/bootstrap.py static|dns|etcd_discovery|etcd_v2_keys|kvd_discovery|kvd_etcd_members|v3_etcd|v3_kvd

--keep leaves the directories with the members' logs."""
import os
import signal
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from lib import testing
from lib.bootstrap import (DOMAIN, BootCluster, BootMember, Scratch, assert_healthy, ends_with, fetch, log_messages,
                           new_token, start_dns, start_service, wait_log)
from lib.certificates import Authority, TlsCluster, run
from lib.cluster import Cluster

WAITING = r"found {} peer\(s\), waiting for {} more"


def tool(args):
    return [os.path.join(args.bin_dir, "kvctl")]


def static(args):
    """Names, two URLs for one of them, a token of its own."""
    cluster = BootCluster(args.implementation, 3, args=["-initial-cluster-token", "blue"])
    names = [f"{m.name}={m.peer_url}" for m in cluster.members]
    cluster.way = ["-initial-cluster", ",".join(names), "-initial-cluster-state", "new"]
    with cluster:
        cluster.start()
        cluster.wait_healthy()
        assert_healthy(cluster, tool(args))
        # A restart does not read the settings of the first start any more.
        cluster.members[1].kill()
        cluster.way = ["--initial-cluster", "m1=http://127.0.0.1:1", "--initial-cluster-state", "existing"]
        cluster.members[1].start()
        cluster.members[1].wait_healthy()


def dns(args):
    testing.need_program("dnsmasq")
    with Scratch() as directory:
        for suffix in ("", "blue"):
            dns_way(args, directory, suffix)
        dns_ssl(args, directory)


def dns_way(args, directory, suffix):
    service = f"etcd-server-{suffix}" if suffix else "etcd-server"
    client = f"etcd-client-{suffix}" if suffix else "etcd-client"
    cluster = BootCluster(args.implementation, 3, advertise="localhost")
    records = [(service, "localhost", m.peer_port) for m in cluster.members]
    records += [(client, "localhost", m.client_port) for m in cluster.members]
    with start_dns(directory, records) as server, cluster:
        named = ["--discovery-srv-name", suffix] if suffix else []
        cluster.way = ["--discovery-srv", DOMAIN, *named, "--discovery-dns-servers", server.address]
        cluster.start()
        cluster.wait_healthy()
        assert_healthy(cluster, tool(args))
        got = cluster.kvctl(args, "--discovery-srv", DOMAIN, *named, "--discovery-dns-servers", server.address, "get",
                            "boot", "--print-value-only")
        assert got.strip() == "strapped", got
        testing.step(f"_{service}._tcp, and kvctl through _{client}._tcp")
        outsider = BootMember(cluster, "m9", "localhost")
        outsider.start()
        ends_with(outsider, 'cannot find local etcd member \\\\"m9\\\\" in SRV records')


def dns_ssl(args, directory):
    """Records of the secure service: three members with certificates of one authority, and kvctl by DNS."""
    testing.need_program("openssl")
    authority = Authority(directory)
    cert, key = authority.issue("member")
    authority.issue("client", common_name="client", hosts="")
    cluster = TlsCluster([args.implementation] * 3, [], authority)
    with start_dns(directory, [("etcd-server-ssl", "localhost", m.peer_port) for m in cluster.members] +
                   [("etcd-client-ssl", "localhost", m.client_port) for m in cluster.members]) as server:
        way = ["--discovery-srv", DOMAIN, "--discovery-dns-servers", server.address]
        for member in cluster.members:
            member.way = [*way, "--initial-advertise-peer-urls", f"https://localhost:{member.peer_port}"]
        plain = BootMember(BootCluster(args.implementation, 0, way), "m0", "localhost")
        plain.peer_port = cluster.members[0].peer_port
        plain.start()
        ends_with(plain, f"bootstrap at https://localhost:{plain.peer_port} from DNS for etcd-server-ssl has scheme "
                         f"mismatch with expected peer http://localhost:{plain.peer_port}")
        plain.cluster.close()
        cluster.args = ["--cert-file", cert, "--key-file", key, "--trusted-ca-file", authority.ca, "--client-cert-auth",
                        "--peer-cert-file", cert, "--peer-key-file", key, "--peer-trusted-ca-file", authority.ca,
                        "--peer-client-cert-auth"]
        with cluster:
            assert_healthy(cluster, [*tool(args), *cluster.tool_flags])
            got = run([*tool(args), *cluster.tool_flags, *way, "get", "boot", "--print-value-only"])
            assert got.stdout.strip() == "strapped", got.stderr
    testing.step("_etcd-server-ssl._tcp, and kvctl through _etcd-client-ssl._tcp")


def walk(args, cluster):
    """The members come one after the other; the first says what it waits for."""
    first, second, third = cluster.members
    first.start()
    wait_log(first, WAITING.format(1, 2))
    second.start()
    wait_log(first, WAITING.format(2, 1))
    third.start()
    cluster.wait_healthy()
    assert_healthy(cluster, tool(args))
    for message in log_messages(first.log()):
        if message.startswith("found "):
            print(f"  {first.name}: {message}")


def surplus(cluster, extra=()):
    member = BootMember(cluster, "surplus")
    cluster.args = list(extra)
    member.start()
    ends_with(member, "discovery: cluster is full")
    cluster.args = []
    testing.step("a surplus member ends: discovery: cluster is full")


def duplicates(args, service_url, size=2):
    """An ID that has registered before, and a name that two members have."""
    cluster = BootCluster(args.implementation, 2)
    cluster.way = ["--discovery", new_token(service_url, size)]
    first, second = cluster.members
    with cluster:
        first.start()
        wait_log(first, WAITING.format(1, 1))
        first.kill()
        again = BootMember(cluster, "again")
        again.peer_port = first.peer_port
        again.start()
        ends_with(again, "discovery: found duplicate id")
        second.name = first.name
        second.start()
        ends_with(second, "discovery: found duplicate name")
    testing.step("duplicate id, duplicate name")


def end_by_signal(args, service_url):
    cluster = BootCluster(args.implementation, 1)
    cluster.way = ["--discovery", new_token(service_url, 3)]
    with cluster:
        member = cluster.members[0]
        member.start()
        wait_log(member, WAITING.format(1, 2))
        code = member.stop(timeout=10)
        assert code == -signal.SIGTERM, code
        assert not os.path.exists(member.data_dir)
    testing.step("SIGTERM ends a member that waits, and leaves nothing behind")


def down_and_back(args, directory, service, backend):
    """The service goes while members wait, and comes back: they go on where they were."""
    cluster = BootCluster(args.implementation, 2)
    cluster.way = ["--discovery", new_token(service.url, 2)]
    first, second = cluster.members
    with cluster:
        first.start()
        wait_log(first, WAITING.format(1, 1))
        service.stop()
        backend.members[0].kill()
        wait_log(first, "waiting for other nodes: error connecting to .* retrying in 2s")
        second.start()
        wait_log(second, "cluster status check: error connecting to .* retrying in 2s")
        backend.members[0].start()
        backend.members[0].wait_healthy()
        service.start()
        cluster.wait_healthy()
        assert_healthy(cluster, tool(args))
    testing.step("the service was down, and came back")


def etcd_discovery(args):
    """Debian's etcd-discovery in front of an etcd with v2 keys."""
    testing.need_program("discovery.etcd.io")
    with Scratch() as directory, Cluster(testing.real_etcd(), 1, ["--enable-v2=true"]) as backend:
        with start_service(directory, backend.members[0].client_url) as service:
            cluster = BootCluster(args.implementation, 3)
            cluster.way = ["-discovery", new_token(service.url, 3), "-discovery-fallback", "exit"]
            with cluster:
                walk(args, cluster)
                surplus(cluster)
            through_proxy(args, service)
            duplicates(args, service.url)
            end_by_signal(args, service.url)
            down_and_back(args, directory, service, backend)


def through_proxy(args, service):
    """--discovery-proxy: etcd-discovery takes requests in a proxy's form too, so it is its own proxy here."""
    cluster = BootCluster(args.implementation, 1)
    token = new_token(service.url, 1).rsplit("/", 1)[1]
    # A host that nobody answers for: only the proxy leads anywhere.
    cluster.way = ["--discovery", f"http://192.0.2.1:9/{token}", "--discovery-proxy", service.url.split("//")[1]]
    with cluster:
        cluster.start()
        cluster.wait_healthy()
    testing.step("through --discovery-proxy")


def etcd_v2_keys(args):
    """No service at all: a directory of an etcd with v2 keys, as its documents show it."""
    with Cluster(testing.real_etcd(), 1, ["--enable-v2=true"]) as backend:
        base = f"{backend.members[0].client_url}/v2/keys/discovery/6c007a14875d53d9bf0ef5a6fc0257c817f0fb83"
        cluster = BootCluster(args.implementation, 3)
        cluster.way = ["--discovery", base]
        with cluster:
            for value, error in ((None, "size key not found"), ("some", "size key is bad"), ("0", "size key is bad")):
                if value is not None:
                    fetch(base + "/_config/size", "PUT", f"value={value}".encode())
                member = BootMember(cluster, "early")
                member.start()
                ends_with(member, f"discovery: {error}")
            fetch(base + "/_config/size", "PUT", b"value=3")
            walk(args, cluster)
            surplus(cluster)


def discovery_url_of(member, size):
    url = new_token(member.client_url, size)
    assert url.startswith(member.client_url + "/"), url
    return url


def kvd_discovery(args):
    """A running kvd is the service; its members serve the token all alike, also after a restart of them all."""
    with Cluster(args.implementation, 3, ["--enable-discovery-service"]) as service:
        protocol(service)
        url = discovery_url_of(service.members[0], 3)
        elsewhere = url.replace(service.members[0].client_url, service.members[1].client_url)
        assert fetch(elsewhere + "/_config/size")[0] == 200
        cluster = BootCluster(args.implementation, 3)
        cluster.way = ["--discovery", url]
        with cluster:
            first, second, third = cluster.members
            first.start()
            wait_log(first, WAITING.format(1, 2))
            for member in service.members:
                member.kill()
            for member in service.members:
                member.start()
            for member in service.members:
                member.wait_healthy()
            testing.step("the service's members were killed, all of them, and are back")
            second.start()
            wait_log(second, WAITING.format(2, 1))
            third.start()
            cluster.wait_healthy()
            assert_healthy(cluster, tool(args))
            surplus(cluster)
        duplicates(args, service.members[2].client_url)


def protocol(service):
    """What curl sees."""
    member = service.members[0]
    for bad in ("0", "-1", "x", "1001", "3x"):
        assert fetch(f"{member.client_url}/new?size={bad}")[0] == 400, bad
    url = discovery_url_of(member, 3)
    status, headers, body = fetch(url)
    assert status == 200 and '"dir":true' in body and "nodes" not in body and int(headers["X-Etcd-Index"]) > 1, body
    status, _, body = fetch(url + "/_config/size")
    assert status == 200 and '"value":"3"' in body, body
    status, _, body = fetch(url + "/abc123?prevExist=false", "PUT", b"value=m1%3Dhttp%3A%2F%2F10.0.0.1%3A2380")
    assert status == 201 and '"action":"create"' in body and "m1=http://10.0.0.1:2380" in body, body
    status, _, body = fetch(url + "/abc123?prevExist=false", "PUT", b"value=again")
    assert status == 412 and '"errorCode":105' in body, body
    for path, data, want, code in (("/abc124", b"value=x", 400, 209), ("/XYZ?prevExist=false", b"value=x", 404, 100),
                                   ("/_config/size", b"value=5", 412, 105), ("", b"value=x", 403, 102),
                                   ("/abc125?prevExist=false", b"value=" + b"x" * 5000, 400, 209)):
        status, _, body = fetch(url + path, "PUT", data)
        assert status == want and f'"errorCode":{code}' in body, (path, status, body)
    nowhere = url[:-1] + ("0" if url[-1] != "0" else "1")
    for path, method in (("", "GET"), ("/_config/size", "GET"), ("/abc?prevExist=false", "PUT"), ("/abc", "DELETE")):
        status, _, body = fetch(nowhere + path, method, b"value=x" if method == "PUT" else None)
        assert status == 404 and '"errorCode":100' in body, (path, status, body)
    # The past and the future of a token.
    index = int(fetch(url)[1]["X-Etcd-Index"])
    status, _, body = fetch(f"{url}?recursive=true&wait=true&waitIndex={index}")
    assert status == 200 and "abc123" in body, body
    status, _, body = fetch(f"{url}?wait=true&waitIndex=x")
    assert status == 400 and '"errorCode":209' in body, body
    assert fetch(url + "/abc123", "DELETE")[0] == 200
    assert fetch(url + "/abc123")[0] == 404
    assert fetch(url, "DELETE")[0] == 403
    assert fetch(url + "?recursive=true", "DELETE")[0] == 200
    assert fetch(url)[0] == 404
    assert fetch(url, "POST", b"value=x")[0] == 405
    # The documents' way to make a token by hand.
    status, _, body = fetch(f"{member.client_url}/v2/keys/_etcd/registry/by-hand/_config/size", "PUT", b"value=3")
    assert status == 201, body
    testing.step("the protocol as curl sees it")


def kvd_etcd_members(args):
    """Members of a real etcd boot through a kvd."""
    etcd = testing.real_etcd()
    with Cluster(args.implementation, 1, ["--enable-discovery-service"]) as service:
        cluster = BootCluster(etcd, 3, args=["--logger", "zap"])
        cluster.way = ["--discovery", discovery_url_of(service.members[0], 3)]
        with cluster:
            cluster.start()
            cluster.wait_healthy()
            assert_healthy(cluster, tool(args))
            testing.step("three members of etcd 3.4 through a kvd")


def v3(args, backend):
    member = backend.members[0]
    cluster = BootCluster(args.implementation, 3)
    cluster.way = ["--discovery-endpoints", f"127.0.0.1:1,{member.client_url}", "--discovery-token", "blue"]
    with cluster:
        for size, error in ((None, "size key not found"), ("many", "size key is bad")):
            if size:
                backend.etcdctl("put", "/_etcd/registry/blue/_config/size", size)
            early = BootMember(cluster, "early")
            early.start()
            ends_with(early, f"discovery: {error}")
        backend.etcdctl("put", "/_etcd/registry/blue/_config/size", "3")
        walk(args, cluster)
        surplus(cluster)
        keys = backend.etcdctl("get", "--prefix", "/_etcd/registry/blue/members/", "--print-value-only").stdout
        assert sorted(keys.split()) == sorted(f"{m.name}={m.peer_url}" for m in cluster.members), keys

    # A member that stopped while it waited comes back to its own registration, after the cluster was away.
    backend.etcdctl("put", "/_etcd/registry/green/_config/size", "2")
    cluster = BootCluster(args.implementation, 2)
    cluster.way = ["--discovery-endpoints", member.endpoint, "--discovery-token", "green"]
    first, second = cluster.members
    with cluster:
        first.start()
        wait_log(first, WAITING.format(1, 1))
        first.kill()
        first.start()
        wait_log(first, WAITING.format(1, 1))
        member.kill()
        wait_log(first, "waiting for other nodes: error connecting to .* retrying in 2s")
        member.start()
        member.wait_healthy()
        second.start()
        cluster.wait_healthy()
        assert_healthy(cluster, tool(args))
    testing.step("a member that came back, a service that was away")


def v3_etcd(args):
    with Cluster(testing.real_etcd(), 1) as backend:
        v3(args, backend)


def v3_kvd(args):
    with Cluster(args.implementation, 1, ["--enable-discovery-service"]) as backend:
        v3(args, backend)
        # One token, both protocols.
        url = discovery_url_of(backend.members[0], 2)
        cluster = BootCluster(args.implementation, 2)
        first, second = cluster.members
        with cluster:
            cluster.way = ["--discovery-endpoints", backend.members[0].endpoint, "--discovery-token",
                           url.rsplit("/", 1)[1]]
            first.start()
            wait_log(first, WAITING.format(1, 1))
            cluster.way = ["--discovery", url]
            second.start()
            # The token is a part of the members' IDs, and the two ways name it differently.
            ends_with(second, "all members must be given the same discovery URL or token")


WAYS = (static, dns, etcd_discovery, etcd_v2_keys, kvd_discovery, kvd_etcd_members, v3_etcd, v3_kvd)


def main():
    args = testing.arguments(__doc__, way=[way.__name__ for way in WAYS])
    next(way for way in WAYS if way.__name__ == args.way)(args)


if __name__ == "__main__":
    main()
