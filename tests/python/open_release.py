#!/usr/bin/env python3
"""Opens a release of cos-escrow and verifies its depositors' signatures, without any code of the service.

Written from the format text in `src/envelope` alone (release, body, header, payload, stanza, signature, sealing_key).
Needs PyPI `cryptography` with HPKE and ML-KEM; run with version 50.

    open_release.py RELEASE PRIVATE_KEY --kem x25519|x-wing|p256 [--root ROOT.der] [--content DIR]
    open_release.py --vector tests/vectors/envelope/release-x-wing.json --signer tests/vectors/envelope/signer.json

RELEASE is the binary release, PRIVATE_KEY the 32 private bytes of the sealing key. Prints one line of JSON; `ok` is true
if every item opened and every signature verified. The content itself is secret: it is printed only as its SHA-256, and
written only into the folder that `--content` names. Exit code 0 if ok, 1 if not.
"""

import argparse
import hashlib
import hmac
import json
import os
import pathlib
import sys

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, hpke
from cryptography.hazmat.primitives.asymmetric import ec, x25519
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

KEMS = {"x-wing": (0x647A, 1120), "x25519": (0x0020, 32), "p256": (0x0010, 65)}


class Refused(Exception):
    """The bytes are not a release, or not one that this key opens."""


class Reader:
    """Fields one after the other: big-endian integers and length-prefixed strings."""

    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, length):
        if length > len(self.data) - self.at:
            raise Refused("the bytes end in the middle of a field")
        self.at += length
        return self.data[self.at - length : self.at]

    def number(self, width):
        return int.from_bytes(self.take(width), "big")

    def text8(self):
        text = self.take(self.number(1))
        if any(not 0x20 <= byte <= 0x7E for byte in text):
            raise Refused("a text is not printable ASCII")
        return text.decode()

    def bytes16(self):
        return self.take(self.number(2))

    def bytes32(self):
        return self.take(self.number(4))

    def flag(self):
        value = self.number(1)
        if value > 1:
            raise Refused("a flag is neither 0 nor 1")
        return value == 1

    def finish(self):
        if self.at != len(self.data):
            raise Refused("there are bytes after the end")


def text8(text):
    return bytes([len(text)]) + text.encode()


def sha256(data):
    return hashlib.sha256(data).digest()


def read_header(data):
    fields = Reader(data)
    if (fields.number(1), fields.number(1)) != (1, 1):
        raise Refused("the header is of another format or suite")
    header = {"envelope_id": fields.take(16).hex()}
    header["component"] = {1: "credentials", 2: "read"}[fields.number(1)]
    header["created"] = fields.number(8)
    for name in ("supply_point", "meter_make", "meter_serial", "depositor", "supply_start"):
        header[name] = fields.text8()
    header["read_commitment"] = fields.take(32).hex() if fields.flag() else None
    header["inventory"] = [fields.text8() for _ in range(fields.number(1))]
    fields.finish()
    if any(a >= b for a, b in zip(header["inventory"], header["inventory"][1:])):
        raise Refused("the inventory is not in order")
    return header


def read_body(data):
    fields = Reader(data)
    if fields.take(5) != b"cosB\x01":
        raise Refused("this is no body")
    body = {"header_bytes": fields.bytes16(), "commitment": fields.take(32), "ciphertext": fields.bytes32()}
    body["stanza_digests"] = [fields.take(32) for _ in range(fields.number(1))]
    body["chain"], body["signature"] = [], None
    if fields.flag():
        body["chain"] = [fields.bytes16() for _ in range(fields.number(1))]
        body["signature"] = fields.bytes16()
    fields.finish()
    body["header"] = read_header(body["header_bytes"])
    return body


def read_stanza(data):
    fields = Reader(data)
    stanza = {"recipient": fields.text8(), "key_id": fields.take(32), "kem": fields.number(2)}
    stanza["enc"], stanza["ciphertext"] = fields.bytes16(), fields.take(48)
    fields.finish()
    return stanza


def read_release(data):
    fields = Reader(data)
    if fields.take(5) != b"cosR\x01":
        raise Refused("this is no release")
    release = {"grant": fields.take(16).hex(), "handover": fields.take(16).hex(), "recipient": fields.text8()}
    release["key_id"], release["issued"] = fields.take(32), fields.number(8)
    release["items"] = []
    for _ in range(fields.number(1)):
        item = {"generation": fields.number(4), "status": fields.text8(), "deposited": fields.number(8)}
        item["body"], item["stanza"] = read_body(fields.bytes32()), read_stanza(fields.bytes16())
        release["items"].append(item)
    fields.finish()
    return release


class SealingKey:
    """A private sealing key of one of the three KEMs."""

    def __init__(self, kem, private):
        if len(private) != 32:
            raise Refused("a private sealing key has 32 bytes")
        self.kem_id, self.enc_bytes = KEMS[kem]
        if kem == "x25519":
            self.key, suite = x25519.X25519PrivateKey.from_private_bytes(private), hpke.KEM.X25519
        elif kem == "p256":
            number = int.from_bytes(private, "big")
            self.key, suite = ec.derive_private_key(number, ec.SECP256R1()), hpke.KEM.P256
        else:
            self.key, suite = x_wing(private), hpke.KEM.MLKEM768_X25519
        self.suite = hpke.Suite(suite, hpke.KDF.HKDF_SHA256, hpke.AEAD.AES_256_GCM)

    def open(self, stanza, info):
        if stanza["kem"] != self.kem_id or len(stanza["enc"]) != self.enc_bytes:
            raise Refused("the stanza is of another KEM")
        return self.suite.decrypt(stanza["enc"] + stanza["ciphertext"], self.key, info)


def x_wing(seed):
    """Expands the 32 bytes of an X-Wing key: 64 for ML-KEM-768, 32 for X25519."""
    from cryptography.hazmat.primitives.asymmetric import mlkem

    expanded = hashlib.shake_256(seed).digest(96)
    return hpke.MLKEM768X25519PrivateKey(
        mlkem.MLKEM768PrivateKey.from_seed_bytes(expanded[:64]),
        x25519.X25519PrivateKey.from_private_bytes(expanded[64:]),
    )


def hkdf(dek, info):
    return HKDF(hashes.SHA256(), 32, b"cos-escrow/payload/1", info).derive(dek)


def open_item(item, key, release):
    body, stanza = item["body"], item["stanza"]
    if stanza["key_id"] != release["key_id"] or stanza["recipient"] != f"urn:cos-escrow:party:{release['recipient']}":
        raise Refused("the stanza is not the recipient's")
    digest = sha256(body["header_bytes"])
    info = text8("cos-escrow/stanza/1") + digest + text8(stanza["recipient"]) + stanza["key_id"]
    dek = key.open(stanza, info)
    if not hmac.compare_digest(hkdf(dek, b"cos-escrow/payload/commitment/1" + digest), body["commitment"]):
        raise Refused("the key is not the one that the envelope commits to")
    payload_key = hkdf(dek, b"cos-escrow/payload/key/1" + digest)
    return AESGCM(payload_key).decrypt(bytes(12), body["ciphertext"], body["header_bytes"])


def verify_signature(body, root):
    """Says who signed: the certificate's one URI must be the depositor's. With a root, the chain must lead to it."""
    if body["signature"] is None:
        raise Refused("the body is not signed")
    chain = [x509.load_der_x509_certificate(der) for der in body["chain"]]
    if root is not None:
        for certificate, issuer in zip(chain, chain[1:] + [root]):
            certificate.verify_directly_issued_by(issuer)
    digests = body["stanza_digests"]
    signed = text8("cos-escrow/envelope/1") + len(body["header_bytes"]).to_bytes(2, "big") + body["header_bytes"]
    signed += body["commitment"] + sha256(body["ciphertext"]) + bytes([len(digests)]) + b"".join(digests)
    chain[0].public_key().verify(body["signature"], signed, ec.ECDSA(hashes.SHA256()))
    names = chain[0].extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    uris = names.get_values_for_type(x509.UniformResourceIdentifier)
    if uris != [f"urn:cos-escrow:party:{body['header']['depositor']}"]:
        raise Refused("the signer is not the depositor")


def report_item(item, key, release, root):
    report = {"generation": item["generation"], "status": item["status"], "header": item["body"]["header"]}
    content = None
    for step, run in (("opened", lambda: open_item(item, key, release)), ("signed", lambda: verify_signature(item["body"], root))):
        try:
            result = run()
            content = result if step == "opened" else content
            report[step] = True
        except InvalidSignature:
            report[step], report["error"] = False, "the signature does not verify"
        except Exception as error:
            report[step], report["error"] = False, str(error) or type(error).__name__
    if content is not None:
        report["content_sha256"] = sha256(content).hex()
    return report, content


def write_content(folder, item, content):
    name = f"{item['body']['header']['component']}-{item['generation']}.json"
    handle = os.open(pathlib.Path(folder) / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "wb") as file:
        file.write(content)


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("release", nargs="?", type=pathlib.Path)
    parser.add_argument("private_key", nargs="?", type=pathlib.Path)
    parser.add_argument("--kem", choices=KEMS, default="x-wing")
    parser.add_argument("--root", type=pathlib.Path, help="root certificate, DER")
    parser.add_argument("--content", type=pathlib.Path, help="folder for the opened contents")
    parser.add_argument("--vector", type=pathlib.Path, help="a test vector instead of the files")
    parser.add_argument("--signer", type=pathlib.Path, help="the signer of the vector, for its root")
    given = parser.parse_args()
    if given.vector is None and given.private_key is None:
        parser.error("RELEASE and PRIVATE_KEY, or --vector")
    return given


def inputs(given):
    if given.vector is None:
        root = given.root and given.root.read_bytes()
        return given.release.read_bytes(), given.kem, given.private_key.read_bytes(), root
    vector = json.loads(given.vector.read_text())
    root = given.signer and bytes.fromhex(json.loads(given.signer.read_text())["root"])
    return bytes.fromhex(vector["release"]), vector["kem"], bytes.fromhex(vector["gainer_private"]), root


def main():
    given = arguments()
    try:
        data, kem, private, root = inputs(given)
        root = root and x509.load_der_x509_certificate(root)
        release, key = read_release(data), SealingKey(kem, private)
        items = []
        for item in release["items"]:
            report, content = report_item(item, key, release, root)
            items.append(report)
            if given.content is not None and content is not None:
                write_content(given.content, item, content)
        ok = bool(items) and all(item["opened"] and item["signed"] for item in items)
        answer = {"ok": ok, "grant": release["grant"], "handover": release["handover"],
                  "recipient": release["recipient"], "release_sha256": sha256(data).hex(), "items": items}
    except (Refused, OSError, ValueError, KeyError) as error:
        answer = {"ok": False, "error": str(error)}
    print(json.dumps(answer))
    return 0 if answer["ok"] else 1


if __name__ == "__main__":
    sys.exit(main())
