"""A service manager's socket: prints every datagram as one JSON line, with the id of its sender.

systemd-notify waits until a descriptor that it passes with BARRIER=1 is closed here.
"""
import array
import json
import os
import socket
import struct
import sys

path = sys.argv[1]
server = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
server.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
server.bind(path)
print(json.dumps({"ready": True}), flush=True)
while True:
    data, ancillary, _, _ = server.recvmsg(65536, socket.CMSG_SPACE(64) + socket.CMSG_SPACE(12))
    pid = 0
    for level, kind, body in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            descriptors = array.array("i")
            descriptors.frombytes(body[: len(body) - len(body) % descriptors.itemsize])
            for descriptor in descriptors:
                os.close(descriptor)
        elif level == socket.SOL_SOCKET and kind == socket.SCM_CREDENTIALS:
            pid = struct.unpack("3i", body[:12])[0]
    print(json.dumps({"pid": pid, "lines": data.decode().splitlines()}), flush=True)
