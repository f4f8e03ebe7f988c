#!/usr/bin/env python3
"""Drives a mode C meter with a client that was written elsewhere (PyPI `iec62056-21` 0.0.2).
  python crosscheck_iec62056_21.py PORT ADDRESS PASSWORD1 PASSWORD2 PASSWORD3
Prints a line for each thing it saw, and `OK` at the end. It changes the password of level 1 and the APN."""
import sys

from iec62056_21.client import Iec6205621Client
from iec62056_21.messages import CommandMessage, DataSet

port, address, *passwords = sys.argv[1:]
ACK, NAK = b"\x06", b"\x15"


class Refused(Exception):
    pass


class Session:
    """A session in programming mode. `send_password` of the client raises TypeError, so its command is made by hand."""

    def __init__(self, password):
        self.client = Iec6205621Client.with_tcp_transport(("127.0.0.1", int(port)), device_address=address)
        self.client.SHORT_REACTION_TIME = self.client.REACTION_TIME = 0.001
        self.client.connect()
        challenge = self.client.access_programming_mode()
        assert (challenge.command, challenge.command_type) == ("P", 0), challenge
        self.client.transport.send(CommandMessage("P", 1, DataSet(address="", value=password)).to_bytes())
        self.answer = self.client.transport.recv(1)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.client.send_break()
        self.client.disconnect()

    def read(self, name):
        self.client.transport.send(CommandMessage.for_single_read(name).to_bytes())
        shown = self.client.read_response().data[0]
        if shown.address is None:
            raise Refused(shown.value)
        assert shown.address == name, shown
        return shown

    def write(self, name, value):
        self.client.write_single_value(name, value)


def refused(action, *arguments):
    try:
        action(*arguments)
    except (Refused, ValueError):
        return True
    return False


client = Iec6205621Client.with_tcp_transport(("127.0.0.1", int(port)), device_address=address)
client.SHORT_REACTION_TIME = client.REACTION_TIME = 0.001
client.connect()
shown = {item.address: (item.value, item.unit) for item in client.standard_readout().data if item.address != "!"}
client.disconnect()
print("readout", sorted(shown))
assert shown["1.8.0"][1] == "kWh", shown

for level, password in enumerate(passwords, start=1):
    with Session(password) as session:
        assert session.answer == ACK, session.answer
        total = session.read("1.8.0")
        assert (total.value, total.unit) == shown["1.8.0"], total
        assert session.client.read_single_value("1.8.0").value == total.value, "with additional data"
        assert refused(session.read, "C003.3") and refused(session.read, "9.9.9")
        assert refused(session.write, "0.9.1", "101500") == (level < 2), level
    with Session(password) as session:
        assert refused(session.write, "C090.APN", "other.apn") == (level < 3), level
    print("level", level)

with Session("WRONG") as session:
    assert session.answer == NAK, session.answer
with Session(passwords[2]) as session:
    assert refused(session.write, "C003.1", "short")
with Session(passwords[2]) as session:
    session.write("C003.1", "NEWPASS1")
    assert session.read("C090.APN").value == "other.apn"
with Session("NEWPASS1") as session:
    assert session.answer == ACK, session.answer
with Session(passwords[0]) as session:
    assert session.answer == NAK, session.answer
print("password changed")
print("OK")
