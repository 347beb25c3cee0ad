#!/usr/bin/env python3
"""A second reader of signing.md, written from the page and sharing nothing with the first but the page.

    verify.py VECTORS.json ...

Each file holds one vector (as in vectors/) or a list of them. Printed is a list with one answer for each: `sha256`, the
digest of the body if it is accepted, and `why` if it is not. Needs the package `cryptography`.
"""

import base64
import functools
import hashlib
import json
import re
import sys
from datetime import datetime

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256

MAX_SIGNATURES = 16
MAX_DEPTH = 8
TYPE = "application/vnd.callboard.%s.v1+json"
BODY = {"root": 65536, "release": 65536, "head": 65536, "instruction": 16384}
FIELDS = {
    "root": "v issued_at version expires keys roles servers",
    "release": "v issued_at product version epoch counter min_floor channels hw not_after kind advisory requires_agent "
    "requires_at_least requires installer restart hooks rollback needs_server_contact max_postpone_s payloads",
    "head": "v issued_at serial epoch expires products",
    "instruction": "v issued_at device_id nonce request_sha256 server_time action reason release_sha256 assignment_id "
    "attempt not_before not_after offline_activation activate_on allow_downgrade max_bytes_per_s next_checkin_s "
    "root_version head_serial want",
}


class Refused(Exception):
    """Why a document is not accepted."""


def need(condition, why):
    if not condition:
        raise Refused(why)


# Text that has one meaning.


def integer(text):
    need(text != "-0", "minus zero")
    number = int(text)
    need(-(2**63) <= number < 2**64, "a number beyond 64 bits")
    return number


def no_number(text):
    raise Refused("%s is not an integer" % text)


def once(pairs):
    names = [name for name, _ in pairs]
    need(len(names) == len(set(names)), "a name stands twice")
    return dict(pairs)


def walk(value, depth):
    if isinstance(value, str):
        need(not any(0xD800 <= ord(c) < 0xE000 for c in value), "half of a surrogate pair")
    elif isinstance(value, (dict, list)):
        need(depth < MAX_DEPTH, "nested too deep")
        inside = list(value) + list(value.values()) if isinstance(value, dict) else value
        for one in inside:
            walk(one, depth + 1)


def parse(data):
    try:
        text = data.decode("utf-8")
        value = json.loads(
            text, object_pairs_hook=once, parse_int=integer, parse_float=no_number, parse_constant=no_number
        )
        # JSON's white space and no other.
        need(text.strip(" \t\r\n") == text.strip(), "white space that is none")
    except (UnicodeDecodeError, ValueError, RecursionError) as error:
        raise Refused("not JSON: %s" % error) from error
    walk(value, 0)
    return value


def unbase64(text):
    alphabet = b"-_" if "-" in text or "_" in text else b"+/"
    try:
        data = base64.b64decode(text.encode("ascii"), alphabet, validate=True)
    except ValueError:
        return None
    return data if base64.b64encode(data, alphabet).decode() == text else None


# Fields and their types.


class Fields:
    """An object of JSON whose fields are read with their types."""

    def __init__(self, value, what):
        need(isinstance(value, dict), "%s is not an object" % what)
        self.value, self.what = value, what

    def get(self, name, read, *default):
        if name not in self.value:
            need(default, "%s has no %s" % (self.what, name))
            return default[0]
        return read(self.value[name], "%s.%s" % (self.what, name))

    def maybe(self, name, read):
        return None if self.value.get(name) is None else self.get(name, read)


def text(value, what):
    need(isinstance(value, str), "%s is not a text" % what)
    return value


def boolean(value, what):
    need(isinstance(value, bool), "%s is not true or false" % what)
    return value


def number(bits):
    def read(value, what):
        need(type(value) is int and 0 <= value < 2**bits, "%s is not a number of %d bits" % (what, bits))
        return value

    return read


u32, u64 = number(32), number(64)


def each(read):
    def all_of(value, what):
        need(isinstance(value, list), "%s is not a list" % what)
        return [read(one, what) for one in value]

    return all_of


def matching(pattern):
    compiled = re.compile(pattern, re.ASCII)

    def read(value, what):
        need(compiled.fullmatch(text(value, what)), "%s is not what it should be: %r" % (what, value))
        return value

    return read


digest = matching(r"[0-9a-f]{64}")
uuid = matching(r"[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}")
version = matching(r"[!-~]{1,64}")
file_name = matching(r"[A-Za-z0-9_\-+][A-Za-z0-9._\-+]{0,199}")
hook_path = matching(r"[A-Za-z0-9_\-+][A-Za-z0-9._\-+]*(/[A-Za-z0-9_\-+][A-Za-z0-9._\-+]*)*")
name_of = matching(r"[A-Za-z0-9][A-Za-z0-9._\-]{0,63}")


def choice(*words):
    return matching("|".join(words))


def time(value, what):
    found = re.fullmatch(
        r"(\d{4}-\d\d-\d\d)[Tt ](\d\d:\d\d:\d\d)(\.\d+)?([Zz]|[+-]00:00)", text(value, what), re.ASCII
    )
    need(found, "%s is not a time in UTC" % what)
    try:
        whole = datetime.strptime(found[1] + " " + found[2], "%Y-%m-%d %H:%M:%S")
    except ValueError as error:
        raise Refused("%s: %s" % (what, error)) from error
    milliseconds = int(((found[3] or ".")[1:] + "000")[:3])
    return whole, milliseconds


def begin(kind, body):
    """What all documents have in common."""
    need(len(body) <= BODY[kind], "the body is too large")
    fields = Fields(parse(body), kind)
    need(fields.get("v", u32) == 1, "another format")
    fields.get("issued_at", time)
    known = FIELDS[kind].split()
    for name in fields.get("crit", each(text), []):
        need(name in known, "%s is critical and not known" % name)
    return fields


# Keys.

P = 2**255 - 19
D = -121665 * pow(121666, P - 2, P) % P
L = 2**252 + 27742317777372353535851937790883648493
ROOT_OF_MINUS_1 = pow(2, (P - 1) // 4, P)


def point(encoded):
    """The point of an encoding, if it is the canonical one of a point of edwards25519."""
    y = int.from_bytes(encoded, "little")
    sign, y = y >> 255, y & (2**255 - 1)
    if y >= P:
        return None
    u, v = (y * y - 1) % P, (D * y * y + 1) % P
    square = u * pow(v, P - 2, P) % P
    x = pow(square, (P + 3) // 8, P)
    if x * x % P != square:
        x = x * ROOT_OF_MINUS_1 % P
    if x * x % P != square or (x == 0 and sign):
        return None
    return (P - x if x & 1 != sign else x), y


def double(one):
    (x, y) = one
    product = D * x * x * y * y % P
    return (
        2 * x * y * pow(1 + product, P - 2, P) % P,
        (y * y + x * x) * pow(1 - product, P - 2, P) % P,
    )


def of_small_order(one):
    return double(double(double(one))) == (0, 1)


class Ed25519:
    prefix = bytes.fromhex("302a300506032b6570032100")

    def __init__(self, raw):
        need(len(raw) == 32, "an Ed25519 key has 32 bytes")
        found = point(raw)
        need(found and not of_small_order(found), "no Ed25519 key, or a weak one")
        self.raw, self.key = raw, ed25519.Ed25519PublicKey.from_public_bytes(raw)

    def verifies(self, message, signature):
        self.key.verify(signature, message)
        r = point(signature[:32])
        return r is not None and not of_small_order(r) and int.from_bytes(signature[32:], "little") < L


class EcdsaP256:
    prefix = bytes.fromhex("3059301306072a8648ce3d020106082a8648ce3d030107034200")

    def __init__(self, raw):
        need(len(raw) == 65 and raw[0] == 4, "a P-256 key has 65 bytes, the first is 4")
        try:
            self.raw, self.key = raw, ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), raw)
        except ValueError as error:
            raise Refused("not a point of P-256") from error

    def verifies(self, message, signature):
        r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big")
        self.key.verify(encode_dss_signature(r, s), message, ec.ECDSA(SHA256()))
        return True


ALGORITHMS = {"ed25519": Ed25519, "ecdsa-p256": EcdsaP256}


def signed_by(key, message, signature):
    try:
        return key.verifies(message, signature)
    except InvalidSignature:
        return False


# Documents.


class Envelope:
    """An envelope as read: not yet verified."""

    def __init__(self, kind, data):
        largest = -(-BODY[kind] // 3) * 4 + MAX_SIGNATURES * 200 + 256
        need(len(data) <= largest, "the envelope is too large")
        fields = Fields(parse(data), "envelope")
        self.kind, self.type = kind, fields.get("payloadType", text)
        need(self.type == TYPE % kind, "of type %s" % self.type)
        body = unbase64(fields.get("payload", text))
        need(body is not None and len(body) <= BODY[kind], "the payload is not base64, or too large")
        signatures = fields.get("signatures", each(lambda value, what: Fields(value, what)))
        need(len(signatures) <= MAX_SIGNATURES, "too many signatures")
        for one in signatures:
            one.get("keyid", text, "")
        found = [unbase64(one.get("sig", text)) for one in signatures]
        self.body, self.signatures = body, [one for one in found if one is not None and len(one) == 64]

    def message(self):
        return b"DSSEv1 %d %s %d %s" % (len(self.type), self.type.encode(), len(self.body), self.body)

    def check(self, keys, threshold):
        """As many distinct keys as the threshold says must have signed."""
        message = self.message()
        count = sum(any(signed_by(key, message, one) for one in self.signatures) for key in keys)
        need(threshold > 0 and count >= threshold, "%d signatures, %d are needed" % (count, threshold))


class Role:
    def __init__(self, value, what):
        fields = Fields(value, what)
        self.ids, self.threshold = fields.get("keyids", each(digest)), fields.get("threshold", u32)
        self.fields, self.what = fields, what


class ReleaseRole(Role):
    def __init__(self, value, what):
        super().__init__(value, what)
        self.fields.get("name", text)
        self.epoch = self.fields.get("epoch", u32)
        self.products, self.channels = self.fields.get("products", each(name_of)), self.fields.get("channels", each(text))

    def covers(self, release):
        product = not self.products or release["product"] in self.products
        channels = not self.channels or all(channel in self.channels for channel in release["channels"])
        return product and channels and release["epoch"] == self.epoch


class HeadRole(Role):
    def __init__(self, value, what):
        super().__init__(value, what)
        self.epoch = self.fields.get("epoch", u32)


def server(value, what):
    fields = Fields(value, what)
    fields.get("url", text)
    fields.get("ca_der", each(text))


class Root:
    def __init__(self, body):
        fields = begin("root", body)
        self.version = fields.get("version", u64)
        need(self.version > 0, "version 0")
        fields.get("expires", time)
        fields.get("servers", each(server))
        roles = Fields(fields.get("roles", lambda value, _: value), "roles")
        self.root, self.online = roles.get("root", Role), roles.get("online", Role)
        self.release, self.head = roles.get("release", each(ReleaseRole)), roles.maybe("head", HeadRole)
        listed = Fields(fields.get("keys", lambda value, _: value), "keys")
        self.listed, self.known = set(listed.value), {}
        for key_id in listed.value:
            digest(key_id, "a key id")
            self.add(key_id, listed.get(key_id, Fields))
        need(self.online.threshold == 1, "the online role's threshold is not 1")
        for role in [self.root, self.online, *self.release, *([self.head] if self.head else [])]:
            need(set(role.ids) <= self.listed and len(set(role.ids)) == len(role.ids), "%s names wrong keys" % role.what)
            need(0 < role.threshold <= len(role.ids), "%s has a wrong threshold" % role.what)

    def add(self, key_id, fields):
        alg, public = fields.get("alg", text), fields.get("public", text)
        if alg not in ALGORITHMS:
            return
        try:
            raw = base64.b64decode(public.encode("ascii"), validate=True)
        except ValueError:
            raw = b""
        need(base64.b64encode(raw).decode() == public, "a public key that is not base64")
        key = ALGORITHMS[alg](raw)
        need(hashlib.sha256(key.prefix + raw).hexdigest() == key_id, "a key with another id than its own")
        self.known[key_id] = key

    def keys(self, role):
        return [self.known[key_id] for key_id in role.ids if key_id in self.known]


def first_root(data):
    envelope = Envelope("root", data)
    root = Root(envelope.body)
    envelope.check(root.keys(root.root), root.root.threshold)
    return root, envelope


def next_root(trusted, data):
    envelope = Envelope("root", data)
    envelope.check(trusted.keys(trusted.root), trusted.root.threshold)
    root = Root(envelope.body)
    need(root.version == trusted.version + 1, "version %d" % root.version)
    envelope.check(root.keys(root.root), root.root.threshold)
    return envelope


def payload(value, what):
    fields = Fields(value, what)
    name = fields.get("name", file_name)
    for one in ["sha256", "chunks_sha256"]:
        fields.get(one, digest)
    size, unpacked, chunk = fields.get("size", u64), fields.get("unpacked_size", u64), fields.get("chunk_size", u32)
    need(0 < size <= 2**40 and unpacked <= 2**40, "a payload of a size that cannot be")
    need(2**12 <= chunk <= 2**22 and chunk & (chunk - 1) == 0, "chunks of %d bytes" % chunk)
    form = fields.get("format", choice("raw", "tar_zst"))
    fields.get("entries", u32)
    return name, form


def exactly(value, what, names):
    """An object in which nothing else may stand."""
    fields = Fields(value, what)
    need(set(fields.value) <= set(names.split()), "%s has fields that nobody knows" % what)
    return fields


def requirement(value, what):
    fields = exactly(value, what, "product at_least")
    fields.get("at_least", version)
    return fields.get("product", name_of)


STAGES = (
    "pre-install backup pre-activate post-activate health committed pre-rollback restore post-rollback failure".split()
)


def hook(value, what):
    fields = exactly(value, what, "stage path timeout_s")
    need(0 < fields.get("timeout_s", u32) <= 3600, "a hook of a time that cannot be")
    need(len(fields.get("path", hook_path)) <= 100, "the path of a hook is too long")
    return fields.get("stage", choice(*STAGES))


def conduct(fields):
    """How the update itself is to go, and that no reader overlooks it."""
    stages, rollback = fields.get("hooks", each(hook), []), fields.get("rollback", choice("safe", "needs_backup", "forbidden"), "safe")
    contact, longest = fields.get("needs_server_contact", boolean, False), fields.maybe("max_postpone_s", u32)
    used = {"hooks": stages, "rollback": rollback != "safe", "needs_server_contact": contact}
    missing = [name for name in used if used[name] and name not in fields.get("crit", each(text), [])]
    need(not missing, "not critical: %s" % missing)
    need(len(set(stages)) == len(stages), "two hooks of one stage")
    for stage in ["backup", "restore"]:
        need((stage in stages) == (rollback == "needs_backup"), "a hook for %s, and rollback %s" % (stage, rollback))
    need(longest is None or longest <= 90 * 86400, "put off for too long")
    return stages


def read_release(body):
    fields = begin("release", body)
    release = {"product": fields.get("product", name_of), "epoch": fields.get("epoch", u32)}
    fields.get("version", version)
    counter, floor = fields.get("counter", u64), fields.get("min_floor", u64, 0)
    need(0 < counter < 2**63 and floor <= counter, "a counter or floor that cannot be")
    release["channels"], hardware = fields.get("channels", each(text)), fields.get("hw", each(text))
    need(release["channels"] and hardware, "no channel, or no hardware")
    fields.maybe("not_after", time)
    fields.get("kind", choice("security", "feature", "mixed"), "feature")
    fields.maybe("advisory", text)
    fields.maybe("requires_agent", version)
    least = fields.maybe("requires_at_least", u64)
    need(least is None or 0 < least < counter, "a stepping stone that is none")
    needed = fields.get("requires", each(requirement), [])
    need(len(set(needed)) == len(needed) <= 16 and release["product"] not in needed, "products that cannot be required")
    by_program = fields.get("installer", choice("directory", "command")) == "command"
    restart = fields.get("restart", choice("none", "service", "reboot"), "service")
    hooks = conduct(fields)
    payloads = fields.get("payloads", each(payload))
    names, raw = [name for name, _ in payloads], all(form == "raw" for _, form in payloads)
    need(not by_program or (raw and not hooks and restart != "reboot"), "not for an installer program")
    need(0 < len(names) <= 16 and len(set(names)) == len(names), "no payload, too many, or a name twice")
    return release


def release_under(root, data):
    envelope = Envelope("release", data)
    why = Refused("no release role")
    for role in root.release:
        try:
            envelope.check(root.keys(role), role.threshold)
            need(role.covers(read_release(envelope.body)), "out of the scope of %s" % role.what)
            return envelope
        except Refused as refused:
            why = refused
    raise why


def head_product(value, what):
    fields = Fields(value, what)
    product = fields.get("product", name_of)
    fields.get("epoch", u32)
    latest, least = fields.get("latest_counter", u64), fields.get("min_counter", u64, 0)
    need(least <= latest < 2**63, "counters of a product that cannot be")
    fields.get("revoked", each(digest), [])
    return product


def head_under(root, data):
    envelope = Envelope("head", data)
    need(root.head, "nobody may sign heads")
    envelope.check(root.keys(root.head), root.head.threshold)
    fields = begin("head", envelope.body)
    need(0 < fields.get("serial", u64) < 2**63, "a serial that cannot be")
    need(fields.get("expires", time) > fields.get("issued_at", time), "ends before it begins")
    products = fields.get("products", each(head_product))
    need(len(products) <= 256 and len(set(products)) == len(products), "too many products, or one twice")
    need(fields.get("epoch", u32) == root.head.epoch, "another epoch")
    return envelope


def reason(value, what):
    fields = Fields(value, what)
    fields.get("code", text)
    fields.get("text", text)


def instruction_under(root, data):
    envelope = Envelope("instruction", data)
    envelope.check([key for key in root.keys(root.online) if isinstance(key, Ed25519)], root.online.threshold)
    fields = begin("instruction", envelope.body)
    fields.get("device_id", uuid)
    fields.get("nonce", digest)
    fields.get("request_sha256", digest)
    fields.get("server_time", time)
    action = fields.get("action", choice("none", "download", "install", "cancel", "hold"))
    fields.get("reason", reason)
    about = [fields.maybe("release_sha256", digest), fields.maybe("assignment_id", uuid), fields.maybe("attempt", u32)]
    about = all(one is not None for one in about)
    need(about or action in ("none", "hold"), "an action about nothing")
    begins, ends = fields.maybe("not_before", time), fields.maybe("not_after", time)
    need(begins is None or ends is None or begins <= ends, "ends before it begins")
    if fields.get("offline_activation", boolean, False):
        need(about and begins and ends and action in ("download", "hold"), "a right to nothing")
    fields.get("activate_on", choice("now", "shutdown", "boot"), "now")
    fields.get("allow_downgrade", boolean, False)
    rate = fields.maybe("max_bytes_per_s", u64)
    need(rate is None or (rate > 0 and action == "download"), "a rate of 0, or without a download")
    fields.get("next_checkin_s", u32)
    fields.get("root_version", u64)
    fields.maybe("head_serial", u64)
    fields.get("want", each(text), [])
    return envelope


UNDER = {"next_root": next_root, "release": release_under, "head": head_under, "instruction": instruction_under}


@functools.lru_cache(maxsize=8)
def trusted(text):
    root, _ = first_root(base64.b64decode(text))
    return root


def answer(vector):
    data = base64.b64decode(vector["document"])
    try:
        if vector["kind"] == "first_root":
            _, envelope = first_root(data)
        else:
            envelope = UNDER[vector["kind"]](trusted(vector["trusted"]), data)
    except Refused as refused:
        return {"sha256": None, "why": str(refused)}
    return {"sha256": hashlib.sha256(envelope.body).hexdigest(), "why": ""}


def main():
    vectors = []
    for path in sys.argv[1:]:
        with open(path, encoding="utf-8") as file:
            found = json.load(file)
        vectors += found if isinstance(found, list) else [found]
    json.dump([answer(vector) for vector in vectors], sys.stdout)


if __name__ == "__main__":
    main()
