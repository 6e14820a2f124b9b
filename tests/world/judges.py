"""
What others make of a server's TLSA records: Postfix (posttls-finger of the unpacked tree) and OpenSSL (s_client).  Each
answers with one of our own words: match, half, mismatch, bogus, unusable, none; or "no-tls".
"""

import fcntl
import os
import re
import subprocess

from . import servers


class Finger:
    """posttls-finger in the jail, asking this resolver.  It knows port 53 alone."""

    def __init__(self, name, ca_file, resolver):
        self.resolver = resolver
        self.inside = f"/instances/{name}-finger"
        self.folder = servers.ROOT / self.inside[1:]
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "main.cf").write_text(
            "compatibility_level = 3.6\nshlib_directory = /usr/lib/postfix\nsmtp_dns_support_level = dnssec\nmyhostname = judge.test\n")
        (self.folder / "ca.pem").write_bytes(ca_file.read_bytes())

    def ask(self, domain, port):
        """(verdict, everything it said)"""
        words = ["/usr/sbin/posttls-finger", "-c", "-l", "dane", "-L", "verbose,summary", "-t", "5", "-T", "5",
                 "-F", f"{self.inside}/ca.pem", f"{domain}:{port}"]
        # All jails have one /etc/resolv.conf.
        with open(servers.ROOT / "etc/.resolv.lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            (servers.ROOT / "etc/resolv.conf").write_text(
                f"nameserver {self.resolver}\noptions trust-ad edns0 timeout:1 attempts:1\n")
            done = subprocess.run(servers.jail(*words), capture_output=True, text=True, timeout=60,
                                  env={**os.environ, "MAIL_CONFIG": self.inside})
        said = done.stdout + done.stderr
        return self._verdict(said), said

    @staticmethod
    def _verdict(said):
        if "TLSA lookup error" in said:
            return "bogus"
        if "all TLSA records unusable" in said:
            return "unusable"
        if "DNSSEC-signed TLSA record" not in said:
            return "unusable" if "unsupported TLSA certificate usage" in said else "none"
        session = re.search(r"(\w+) TLS connection established", said)
        if not session:
            return "no-tls"
        if "Matched DANE" not in said:
            return "mismatch"
        return {"Verified": "match", "Trusted": "half", "Untrusted": "mismatch"}[session.group(1)]

    def close(self):
        for name in ("main.cf", "ca.pem"):
            (self.folder / name).unlink()
        self.folder.rmdir()


def openssl(address, port, base, names, records):
    """The same by `openssl s_client`, which looks up nothing: `records` are the TLSA texts, `names` the reference names."""
    usable, said = [], ""
    for name in names:
        words = ["openssl", "s_client", "-starttls", "smtp", "-connect", f"{address}:{port}", "-servername", base,
                 "-dane_tlsa_domain", name, "-dane_ee_no_namechecks", "-cipher", "DEFAULT:@SECLEVEL=0", "-brief"]
        for record in records:
            words += ["-dane_tlsa_rrdata", record]
        done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=30)
        said += done.stdout + done.stderr
        if "Verified peername" in done.stderr or "DANE TLSA" in done.stderr and "Verification: OK" in done.stderr:
            return "match", said
        usable.append(done.stderr.count("unusable TLSA rrdata") < len(records))
        if "CONNECTION ESTABLISHED" not in done.stderr and usable[-1] and "Verification error" not in done.stderr:
            return "no-tls", said
    return ("mismatch" if any(usable) else "unusable"), said
