"""Certificates of the demonstration world: one test authority and leaves that are good or bad in one way."""

import datetime
import ipaddress
import pathlib

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

DAY = datetime.timedelta(days=1)


class Certs:
    """Makes certificates on demand in `folder`; every method returns (certificate file, key file)."""

    def __init__(self, folder):
        self.folder = pathlib.Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.ca_file = self.folder / "ca.pem"
        self._ca_key, self._ca = self._make_ca("Hayauma test authority")
        self.ca_file.write_bytes(self._ca.public_bytes(serialization.Encoding.PEM))

    def good(self, *names):
        return self._leaf("good", names)

    def self_signed(self, *names):
        return self._leaf("self-signed", names, self_signed=True)

    def expired(self, *names):
        return self._leaf("expired", names, start=-400 * DAY, end=-30 * DAY)

    def not_yet_valid(self, *names):
        return self._leaf("not-yet-valid", names, start=30 * DAY, end=400 * DAY)

    def unknown_ca(self, *names):
        key, ca = self._make_ca("An authority that nobody trusts")
        return self._leaf("unknown-ca", names, issuer=(key, ca))

    def weak(self, *names):
        return self._leaf("weak", names, key=rsa.generate_private_key(65537, 1024))

    @staticmethod
    def _make_ca(name):
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        now = datetime.datetime.utcnow()
        cert = (
            x509.CertificateBuilder().subject_name(subject).issuer_name(subject).public_key(key.public_key())
            .serial_number(x509.random_serial_number()).not_valid_before(now - DAY).not_valid_after(now + 400 * DAY)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(x509.KeyUsage(False, False, False, False, False, True, True, False, False), critical=True)
            .sign(key, hashes.SHA256()))
        return key, cert

    def _leaf(self, kind, names, start=-DAY, end=300 * DAY, self_signed=False, issuer=None, key=None):
        stem = f"{kind}-{names[0]}"
        cert_file, key_file = self.folder / f"{stem}.pem", self.folder / f"{stem}.key"
        if cert_file.exists():
            return str(cert_file), str(key_file)
        key = key or ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0])])
        ca_key, ca = issuer or (self._ca_key, self._ca)
        now = datetime.datetime.utcnow()
        cert = (
            x509.CertificateBuilder().subject_name(subject).issuer_name(subject if self_signed else ca.subject)
            .public_key(key.public_key()).serial_number(x509.random_serial_number())
            .not_valid_before(now + start).not_valid_after(now + end)
            .add_extension(x509.SubjectAlternativeName([_san(n) for n in names]), critical=False)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
            .sign(key if self_signed else ca_key, hashes.SHA256()))
        pem = cert.public_bytes(serialization.Encoding.PEM)
        if issuer:
            pem += ca.public_bytes(serialization.Encoding.PEM)
        cert_file.write_bytes(pem)
        key_file.touch(mode=0o600)
        key_file.write_bytes(key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))
        return str(cert_file), str(key_file)


def _san(name):
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)
