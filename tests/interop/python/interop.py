"""gRPC for Python (the C core) with stubs generated from the API's own files; a line for each check."""
import queue
import sys

import grpc

from etcd.api.etcdserverpb import rpc_pb2 as pb
from etcd.api.etcdserverpb import rpc_pb2_grpc as rpc

TIMEOUT = 20


def want(got, wanted):
    if got != wanted:
        raise AssertionError(f"got {got!r}, want {wanted!r}")


def refused(call, code, text):
    try:
        call()
    except grpc.RpcError as error:
        want((error.code(), error.details()), (code, text))
    else:
        raise AssertionError(f"not refused with {text}")


def kv(channel):
    stub = rpc.KVStub(channel)
    for i in range(20):
        stub.Put(pb.PutRequest(key=b"py/kv/%02d" % i, value=b"%d" % i), timeout=TIMEOUT)
    found = stub.Range(pb.RangeRequest(key=b"py/kv/", range_end=b"py/kv0", limit=5), timeout=TIMEOUT)
    want((len(found.kvs), found.count, found.more), (5, 20, True))
    gone = stub.DeleteRange(pb.DeleteRangeRequest(key=b"py/kv/1", range_end=b"py/kv/2", prev_kv=True), timeout=TIMEOUT)
    want((gone.deleted, gone.prev_kvs[0].value), (10, b"10"))
    refused(lambda: stub.Put(pb.PutRequest(), timeout=TIMEOUT), grpc.StatusCode.INVALID_ARGUMENT,
            "etcdserver: key is not provided")


def txn(channel):
    stub = rpc.KVStub(channel)
    missing = pb.Compare(key=b"py/txn", target=pb.Compare.CREATE, result=pb.Compare.EQUAL, create_revision=0)
    request = pb.TxnRequest(
        compare=[missing],
        success=[pb.RequestOp(request_put=pb.PutRequest(key=b"py/txn", value=b"1"))],
        failure=[pb.RequestOp(request_range=pb.RangeRequest(key=b"py/txn"))],
    )
    want(stub.Txn(request, timeout=TIMEOUT).succeeded, True)
    second = stub.Txn(request, timeout=TIMEOUT)
    want((second.succeeded, second.responses[0].response_range.kvs[0].value), (False, b"1"))


def large(channel):
    stub = rpc.KVStub(channel)
    for i in range(12):
        stub.Put(pb.PutRequest(key=b"py/large/%02d" % i, value=b"x" * (1 << 20)), timeout=TIMEOUT)
    for _ in range(3):
        found = stub.Range(pb.RangeRequest(key=b"py/large/", range_end=b"py/large0"), timeout=TIMEOUT)
        want(len(found.kvs), 12)


def watch(channel):
    requests = queue.Queue()
    answers = rpc.WatchStub(channel).Watch(iter(requests.get, None), timeout=TIMEOUT)
    requests.put(pb.WatchRequest(create_request=pb.WatchCreateRequest(key=b"py/watch", prev_kv=True)))
    want(next(answers).created, True)
    stub = rpc.KVStub(channel)
    for i in range(10):
        stub.Put(pb.PutRequest(key=b"py/watch", value=b"%d" % i), timeout=TIMEOUT)
    events = []
    while len(events) < 10:
        events.extend(next(answers).events)
    want([event.kv.value for event in events], [b"%d" % i for i in range(10)])
    want(events[9].prev_kv.value, b"8")
    requests.put(pb.WatchRequest(cancel_request=pb.WatchCancelRequest(watch_id=0)))
    want(next(answers).canceled, True)
    requests.put(None)


def lease(channel):
    stub = rpc.LeaseStub(channel)
    granted = stub.LeaseGrant(pb.LeaseGrantRequest(TTL=60), timeout=TIMEOUT)
    rpc.KVStub(channel).Put(pb.PutRequest(key=b"py/lease", lease=granted.ID), timeout=TIMEOUT)
    renewals = stub.LeaseKeepAlive(iter([pb.LeaseKeepAliveRequest(ID=granted.ID)] * 3), timeout=TIMEOUT)
    want([renewal.TTL for renewal in renewals], [60, 60, 60])
    left = stub.LeaseTimeToLive(pb.LeaseTimeToLiveRequest(ID=granted.ID, keys=True), timeout=TIMEOUT)
    want((left.grantedTTL, list(left.keys)), (60, [b"py/lease"]))
    stub.LeaseRevoke(pb.LeaseRevokeRequest(ID=granted.ID), timeout=TIMEOUT)
    want(rpc.KVStub(channel).Range(pb.RangeRequest(key=b"py/lease"), timeout=TIMEOUT).count, 0)
    refused(lambda: stub.LeaseRevoke(pb.LeaseRevokeRequest(ID=granted.ID), timeout=TIMEOUT),
            grpc.StatusCode.NOT_FOUND, "etcdserver: requested lease not found")


def metadata(channel):
    """Metadata that is text and that is binary, and an answer in gzip asked for."""
    request = pb.PutRequest(key=b"py/metadata", value=b"x" * 10_000)
    rpc.KVStub(channel).Put(request, timeout=TIMEOUT, metadata=[("hasleader", "true"), ("x-bin", b"\x00\xff")],
                            compression=grpc.Compression.Gzip)
    found = rpc.KVStub(channel).Range(pb.RangeRequest(key=b"py/metadata"), timeout=TIMEOUT,
                                      compression=grpc.Compression.Gzip)
    want(found.kvs[0].value, b"x" * 10_000)


def main():
    options = [("grpc.max_receive_message_length", -1)]
    for endpoint in sys.argv[1].split(","):
        with grpc.insecure_channel(endpoint, options) as channel:
            rpc.KVStub(channel).DeleteRange(pb.DeleteRangeRequest(key=b"py/", range_end=b"py0"), timeout=TIMEOUT)
            for check in (kv, txn, large, watch, lease, metadata):
                try:
                    check(channel)
                except Exception as problem:  # a check that fails in any way is a difference
                    print(f"not ok {check.__name__}: {problem}")
                    sys.exit(1)
                print(f"ok {check.__name__} at a gateway")


main()
