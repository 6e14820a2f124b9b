"""
Certificates of the demonstration world: one test authority, leaves that are good or bad in one way, and the TLSA
records (RFC 6698) that speak of them.
"""

import datetime
import hashlib
import ipaddress
import pathlib
import re

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509 import ocsp
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID, ObjectIdentifier

DAY = datetime.timedelta(days=1)
PEM = serialization.Encoding.PEM
DER = serialization.Encoding.DER


class Authority:
    """A key and its certificate that sign others."""

    def __init__(self, name, issuer=None, ca=True, path_length=None, key=None, start=-DAY, end=400 * DAY):
        self.key = key or ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        now = datetime.datetime.utcnow()
        builder = (
            x509.CertificateBuilder().subject_name(subject).issuer_name(issuer.cert.subject if issuer else subject)
            .public_key(self.key.public_key()).serial_number(x509.random_serial_number())
            .not_valid_before(now + start).not_valid_after(now + end)
            .add_extension(x509.BasicConstraints(ca=ca, path_length=path_length if ca else None), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(self.key.public_key()), critical=False))
        if ca:
            builder = builder.add_extension(x509.KeyUsage(False, False, False, False, False, True, True, False, False), critical=True)
        self.cert = builder.sign(issuer.key if issuer else self.key, hashes.SHA256())
        self.above = [issuer.cert, *issuer.above] if issuer else []


class Certs:
    """Makes certificates on demand in `folder`; every method that has names returns (certificate file, key file)."""

    def __init__(self, folder):
        self.folder = pathlib.Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.ca_file = self.folder / "ca.pem"
        self.root = Authority("Hayauma test authority")
        self.ca_file.write_bytes(self.root.cert.public_bytes(PEM))
        self._made = {}

    # ---- good in every way ----
    def good(self, *names):
        return self._leaf("good", names)

    def rsa(self, *names):
        return self._leaf("rsa", names, key=lambda: self._once("rsa key", lambda: rsa.generate_private_key(65537, 2048)))

    def chain(self, *names):
        """Leaf, intermediate and root, as TLSA records of usage 2 want them to be presented (RFC 7672 §3.1.2)."""
        return self._leaf("chain", names, issuer=self.intermediate, present=[self.intermediate.cert, self.root.cert])

    def chain_without_root(self, *names):
        return self._leaf("chain-without-root", names, issuer=self.intermediate, present=[self.intermediate.cert])

    # ---- bad in one way ----
    def self_signed(self, *names):
        return self._leaf("self-signed", names, self_signed=True)

    def expired(self, *names):
        return self._leaf("expired", names, start=-400 * DAY, end=-30 * DAY)

    def not_yet_valid(self, *names):
        return self._leaf("not-yet-valid", names, start=30 * DAY, end=400 * DAY)

    def unknown_ca(self, *names):
        return self._leaf("unknown-ca", names, issuer=self.stranger, present=[self.stranger.cert])

    def weak(self, *names):
        return self._leaf("weak", names, key=lambda: self._once("weak key", lambda: rsa.generate_private_key(65537, 1024)))

    def sha1(self, *names):
        return self._leaf("sha1", names, digest=hashes.SHA1())

    def cn_only(self, *names):
        """The name stands in the subject alone, where RFC 9525 §6.3 does not look."""
        return self._leaf("cn-only", names, alternative=False)

    def wildcard(self, *names):
        """*.b.test for a.b.test."""
        return self._leaf("wildcard", [n.replace(n.split(".")[0], "*", 1) for n in names])

    def wildcard_two(self, *names):
        """*.test for a.b.test: a wildcard stands for one label."""
        return self._leaf("wildcard-two", ["*." + n.split(".", 2)[2] for n in names], stem=names[0])

    def wildcard_part(self, *names):
        """m*.b.test for mx.b.test: RFC 9525 §6.3 knows no such thing."""
        return self._leaf("wildcard-part", [n[0] + "*." + n.split(".", 1)[1] for n in names], stem=names[0])

    def not_for_servers(self, *names):
        return self._leaf("not-for-servers", names, purpose=ExtendedKeyUsageOID.CLIENT_AUTH)

    def client(self, *names):
        return self._leaf("client", names, purpose=ExtendedKeyUsageOID.CLIENT_AUTH)

    def ca_false(self, *names):
        """Signed by a certificate that the authority made for a server, not for signing."""
        issuer = self._once("ca-false", lambda: Authority("mail.customer.test", self.root, ca=False))
        return self._leaf("ca-false", names, issuer=issuer, present=[issuer.cert])

    def path_too_long(self, *names):
        """One intermediate more than the path length of the first allows."""
        first = self._once("short path", lambda: Authority("No authority below me", self.root, path_length=0))
        second = self._once("too deep", lambda: Authority("One too many", first))
        return self._leaf("path-too-long", names, issuer=second, present=[second.cert, first.cert])

    def hundred(self, *names):
        """A chain of a hundred certificates."""
        issuer = self._once("hundredth", self._deep)
        return self._leaf("hundred", names, issuer=issuer, present=[issuer.cert, *issuer.above[:-1]])

    def huge(self, *names):
        """A leaf of more than a megabyte."""
        return self._leaf("huge", names, comment=1 << 20)

    def staple(self, cert_file, revoked):
        """What its authority says of a leaf, as a server sends it along (RFC 6066 §8): a file."""
        now = datetime.datetime.utcnow()
        issuer = next(a for a in (self.root, self.intermediate) if a.cert.subject == load(cert_file)[0].issuer)
        response = ocsp.OCSPResponseBuilder().add_response(
            cert=load(cert_file)[0], issuer=issuer.cert, algorithm=hashes.SHA1(),
            cert_status=ocsp.OCSPCertStatus.REVOKED if revoked else ocsp.OCSPCertStatus.GOOD, this_update=now - DAY / 24,
            next_update=now + DAY, revocation_time=now - DAY if revoked else None, revocation_reason=None)
        file = pathlib.Path(cert_file).with_suffix(".revoked" if revoked else ".stapled")
        file.write_bytes(response.responder_id(ocsp.OCSPResponderEncoding.HASH, issuer.cert).sign(issuer.key, hashes.SHA256())
                         .public_bytes(DER))
        return str(file)

    # ---- of the chain that `chain` presents, bad in one way ----
    def chain_expired(self, *names):
        return self._leaf("chain-expired", names, issuer=self.intermediate, start=-400 * DAY, end=-30 * DAY,
                          present=[self.intermediate.cert, self.root.cert])

    def chain_shuffled(self, *names):
        return self._leaf("chain-shuffled", names, issuer=self.intermediate, present=[self.root.cert, self.intermediate.cert])

    def chain_unrelated(self, *names):
        """A stranger's leaf and authority, with the real authority's certificate laid beside them."""
        return self._leaf("chain-unrelated", names, issuer=self.stranger, present=[self.stranger.cert, self.root.cert])

    def chain_ca_false(self, *names):
        issuer = self._once("ca-false", lambda: Authority("mail.customer.test", self.root, ca=False))
        return self._leaf("chain-ca-false", names, issuer=issuer, present=[issuer.cert, self.root.cert])

    @property
    def intermediate(self):
        return self._once("intermediate", lambda: Authority("Hayauma intermediate authority", self.root))

    @property
    def stranger(self):
        return self._once("stranger", lambda: Authority("An authority that nobody trusts"))

    def _once(self, name, make):
        """Keys and authorities take time: each is made when it is first asked for, and then kept."""
        if name not in self._made:
            self._made[name] = make()
        return self._made[name]

    def _deep(self):
        authority = self.root
        for depth in range(99):
            authority = Authority(f"Authority {depth}", authority)
        return authority

    def _leaf(self, kind, names, start=-DAY, end=300 * DAY, self_signed=False, issuer=None, key=None, present=(), digest=None,
              alternative=True, purpose=ExtendedKeyUsageOID.SERVER_AUTH, comment=0, stem=None):
        stem = f"{kind}-{stem or names[0]}"
        cert_file, key_file = self.folder / f"{stem}.pem", self.folder / f"{stem}.key"
        if cert_file.exists():
            return str(cert_file), str(key_file)
        key = key() if key else ec.generate_private_key(ec.SECP256R1())
        # A common name has 64 characters at most.
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0][-64:])])
        issuer = issuer or self.root
        now = datetime.datetime.utcnow()
        builder = (
            x509.CertificateBuilder().subject_name(subject).issuer_name(subject if self_signed else issuer.cert.subject)
            .public_key(key.public_key()).serial_number(x509.random_serial_number())
            .not_valid_before(now + start).not_valid_after(now + end)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.ExtendedKeyUsage([purpose]), critical=False))
        if alternative:
            builder = builder.add_extension(x509.SubjectAlternativeName([_san(n) for n in names]), critical=False)
        if comment:
            text = b"\x16\x83" + comment.to_bytes(3, "big") + b"x" * comment
            builder = builder.add_extension(x509.UnrecognizedExtension(ObjectIdentifier("2.16.840.1.113730.1.13"), text), critical=False)
        cert = builder.sign(key if self_signed else issuer.key, digest or hashes.SHA256())
        cert_file.write_bytes(b"".join(c.public_bytes(PEM) for c in [cert, *present]))
        key_file.touch(mode=0o600)
        key_file.write_bytes(key.private_bytes(PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))
        return str(cert_file), str(key_file)


def _san(name):
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


# ---- what others say of a certificate ----

def load(file):
    """All certificates of a PEM file, leaf first."""
    blocks = re.findall(rb"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", pathlib.Path(file).read_bytes(), re.S)
    return [x509.load_pem_x509_certificate(b) for b in blocks]


def fingerprint(cert, of_key=False):
    """SHA-256 of the certificate or of its public key, in lower-case hexadecimal."""
    return hashlib.sha256(selected(cert, int(of_key))).hexdigest()


def selected(cert, selector):
    if selector == 0:
        return cert.public_bytes(DER)
    return cert.public_key().public_bytes(DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def tlsa(cert, usage, selector, matching):
    """The text of a TLSA record that this certificate satisfies."""
    data = selected(cert, selector)
    data = {0: lambda d: d, 1: lambda d: hashlib.sha256(d).digest(), 2: lambda d: hashlib.sha512(d).digest()}[matching](data)
    return f"{usage} {selector} {matching} {data.hex()}"
