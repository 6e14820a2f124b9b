"""Certificates for listeners and their clients: made as a test wants them, good or bad in one way."""

import datetime
import pathlib

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

DAY = datetime.timedelta(days=1)


class Authority:
    """A CA in `folder`; `file` is its certificate."""

    def __init__(self, folder, name="Papers"):
        self.folder = pathlib.Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        now = datetime.datetime.utcnow()
        self.certificate = (
            x509.CertificateBuilder().subject_name(self.name).issuer_name(self.name).public_key(self.key.public_key())
            .serial_number(x509.random_serial_number()).not_valid_before(now - DAY).not_valid_after(now + 400 * DAY)
            .add_extension(x509.BasicConstraints(ca=True, path_length=1), critical=True)
            .add_extension(x509.KeyUsage(False, False, False, False, False, True, True, False, False), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(self.key.public_key()), critical=False)
            .sign(self.key, hashes.SHA256()))
        self.file = self.folder / f"{name}.pem"
        self.file.write_bytes(self.certificate.public_bytes(serialization.Encoding.PEM))

    def make(self, stem, sans=(), client=False, start=-DAY, end=300 * DAY, self_signed=False, rsa_key=False,
             organisation=None, into=None):
        """A Paper with these subjectAltNames: texts are DNS names, others what they are."""
        key = rsa.generate_private_key(65537, 2048) if rsa_key else ec.generate_private_key(ec.SECP256R1())
        attributes = [x509.NameAttribute(NameOID.COMMON_NAME, stem)]
        if organisation:
            attributes.insert(0, x509.NameAttribute(NameOID.ORGANIZATION_NAME, organisation))
        subject = x509.Name(attributes)
        now = datetime.datetime.utcnow()
        use = ExtendedKeyUsageOID.CLIENT_AUTH if client else ExtendedKeyUsageOID.SERVER_AUTH
        builder = (
            x509.CertificateBuilder().subject_name(subject).issuer_name(subject if self_signed else self.name)
            .public_key(key.public_key()).serial_number(x509.random_serial_number())
            .not_valid_before(now + start).not_valid_after(now + end)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.ExtendedKeyUsage([use]), critical=False))
        names = [x509.DNSName(s) if isinstance(s, str) else s for s in sans]
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        return Paper(into or self.folder / stem, builder.sign(key if self_signed else self.key, hashes.SHA256()), key)

    def revoke(self, *papers):
        """A CRL that names them; its file."""
        now = datetime.datetime.utcnow()
        builder = x509.CertificateRevocationListBuilder().issuer_name(self.name).last_update(now - DAY).next_update(now + 30 * DAY)
        for paper in papers:
            builder = builder.add_revoked_certificate(
                x509.RevokedCertificateBuilder().serial_number(paper.certificate.serial_number).revocation_date(now - DAY).build())
        file = self.folder / "revoked.crl.pem"
        file.write_bytes(builder.sign(self.key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
        return str(file)


class Paper:
    """A certificate and its key, in files."""

    def __init__(self, stem, certificate, key):
        self.certificate, self.private = certificate, key
        self.file, self.key = f"{stem}.pem", f"{stem}.key"
        self.fingerprint = certificate.fingerprint(hashes.SHA256()).hex()
        pathlib.Path(self.file).write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        pathlib.Path(self.key).touch(mode=0o600)
        pathlib.Path(self.key).write_bytes(key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))

    @property
    def pair(self):
        return {"certificate": self.file, "key": self.key}

    def show(self, context):
        """The context of a client that shows this one."""
        context.load_cert_chain(self.file, self.key)
        return context
