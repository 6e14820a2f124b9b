"""
A world whose names are signed: the root and its zones by ldns, the resolver a validating Unbound, policies of MTA-STS over
HTTPS.  What a scenario needs in DNS is said before start(); after it, single answers can be made to fail (`dns.fail`).
"""

import pytest

from harness import MX_PORT, World, receivers
from world import certs as world_certs
from world import dnssec, sts


class SecureWorld(World):
    def __init__(self, folder, certs):
        super().__init__(folder, certs)
        self.dns.stop()
        self.dns = None  # the front, from start() on
        self.signed = dnssec.SignedDns(folder / "dns", self.net)
        self.hosts = sts.PolicyHosts(self.net.address())

    def zone(self, name, state="signed", **more):
        return self.signed.zone(name, state, **more)

    def mail_host(self, name, host, cert="good", address=None, names=None, **how):
        """A scripted receiver for `host`, without any record in DNS; (certificate file, key file)."""
        pair = ()
        if how.get("tls") != "none" and cert:
            pair = getattr(self.certs, cert)(*(names or [host])) if isinstance(cert, str) else cert
        how.setdefault("port", MX_PORT)
        self.receivers.add(receivers.Personality(name=name, host=host, address=address or self.net.address(), cert=pair, **how))
        return pair

    def address_of(self, name):
        return self.receivers.by_name[name].p.address

    def policy(self, domain, body=None, zone=None, txt="v=STSv1; id=1;", cert="good", **how):
        """An MTA-STS policy, and the records that lead to it."""
        site = sts.Site(body if body is not None else sts.policy(mx=[f"mx.{domain}"]), **how)
        site.cert = getattr(self.certs, cert)(f"mta-sts.{domain}") if isinstance(cert, str) else cert
        self.hosts.add(domain, site)
        zone = zone or self.zone(domain.partition(".")[2])
        if txt is not None:
            zone.add(f'_mta-sts.{domain}. TXT "{txt}"')
        zone.add(f"mta-sts.{domain}. A {self.hosts.address}")
        return site

    def start(self):
        self.signed.start()
        self.dns = self.signed.front
        return self

    def daemon(self, *groups, start=True, **config):
        config.setdefault("mta_sts", {"ca_file": str(self.certs.ca_file), "port": self.hosts.port})
        return super().daemon(*groups, start=start, **config)

    def stop(self, check=True):
        self.dns = self.signed  # stops the front too
        try:
            super().stop(check)
        finally:
            self.hosts.stop()


def require_signed_world():
    reason = dnssec.missing()
    if reason:
        pytest.skip(reason)


def leaf(pair):
    return world_certs.load(pair[0])[0]
