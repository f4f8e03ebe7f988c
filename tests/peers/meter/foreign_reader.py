#!/usr/bin/env python3
"""Reads a meter with a foreign DLMS client, PyPI dlms-cosem 21.3.2 (MIT), and sees that other keys are refused.

  python foreign_reader.py < keys.json              last line is OK

keys.json: {"port", "suite", "keys": {"guek", "gak"}, "refused": [{"guek", "gak"}, ...]}, keys in hex. They come on
standard input because others on the machine can read arguments.
"""
import json, sys
from dlms_cosem import cosem, enumerations as E, utils
from dlms_cosem.clients.blocking_tcp_transport import BlockingTcpTransport
from dlms_cosem.clients.dlms_client import DlmsClient

def recv_bytes(self, n):                                  # the library's own loop never ends at EOF
    data = b""
    while len(data) < n:
        part = self.tcp_socket.recv(n - len(data))
        if not part: raise ConnectionError("meter closed the connection")
        data += part
    return data
BlockingTcpTransport._recv_bytes = recv_bytes

job = json.load(sys.stdin)
def client(sap, **kw):
    return DlmsClient.with_tcp_transport(host="127.0.0.1", port=job["port"], timeout=10,
        client_logical_address=sap, server_logical_address=1, **kw)
def management(keys, ic):
    return client(1, authentication_method=E.AuthenticationMechanism.HLS_GMAC, security_suite=job["suite"],
        encryption_key=bytes.fromhex(keys["guek"]), authentication_key=bytes.fromhex(keys["gak"]),
        client_system_title=b"FOREIGN1", client_initial_invocation_counter=ic)
def get(s, cls, obis, attr=2):
    return utils.parse_as_dlms_data(s.get(cosem.CosemAttribute(E.CosemInterface(cls), cosem.Obis(*obis), attr)))
def next_counter():
    with client(16, authentication_method=None).session() as s:
        return get(s, 1, (0, 0, 43, 1, 0)) + 1

with management(job["keys"], next_counter()).session() as s:
    print("serial", bytes(get(s, 1, (0, 0, 96, 1, 0))).decode(), "1.8.0", get(s, 3, (1, 0, 1, 8, 0)),
          "rows", len(get(s, 7, (1, 0, 98, 1, 0))))
for keys in job["refused"]:
    c = management(keys, next_counter() + 1000)
    c.connect()
    try: c.associate()
    except Exception as e: print("refused:", type(e).__name__)
    else: sys.exit("ASSOCIATED with keys that should be refused")
    c.disconnect()
print("OK")
