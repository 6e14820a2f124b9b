"""
Web servers of MTA-STS policies (RFC 8461 §3.3): one listener, many domains, each with its own manners.  The certificate is
chosen by SNI, and every request is remembered.
"""

import dataclasses
import http.server
import socketserver
import ssl
import threading
import time

PATH = "/.well-known/mta-sts.txt"


@dataclasses.dataclass
class Site:
    """What `https://mta-sts.DOMAIN/.well-known/mta-sts.txt` says, and how.  May be changed while it runs."""

    body: bytes = b""
    status: int = 200
    content_type: str = "text/plain"
    headers: dict = dataclasses.field(default_factory=dict)
    cert: tuple = ()  # (certificate file, key file)
    delay_s: float = 0
    endless: bool = False  # chunks without an end


def policy(mode="enforce", mx=(), max_age=86400, end="\r\n", extra=()):
    """A policy file."""
    lines = ["version: STSv1", f"mode: {mode}", *[f"mx: {m}" for m in mx], f"max_age: {max_age}", *extra]
    return (end.join(lines) + end).encode()


class PolicyHosts:
    """
        hosts.add("a.test", Site(policy(mx=["mx.a.test"]), cert=certs.good("mta-sts.a.test")))
        hosts.asked("a.test")          # how often its policy was fetched
    """

    def __init__(self, address, port=0):
        self.sites = {}  # by host name: "mta-sts.a.test"
        self.log = []  # (host, path, time)
        self.handshakes = []  # names asked for by SNI
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            timeout = 30

            def do_GET(self):
                outer.serve(self)

            def log_message(self, *_):
                pass

        class Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
            daemon_threads = True
            request_queue_size = 128

            def finish_request(self, request, client_address):
                # The handshake belongs to the thread of the connection: a slow client holds up nobody.
                try:
                    request.settimeout(30)
                    with outer.context.wrap_socket(request, server_side=True) as tls:
                        Handler(tls, client_address, self)
                except OSError:
                    pass

            def server_bind(self):
                socketserver.TCPServer.server_bind(self)
                self.server_name, self.server_port = self.server_address[:2]

        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.sni_callback = self._on_sni
        self._contexts = {}
        self.server = Server((address, port), Handler)
        self.address, self.port = self.server.server_address
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def add(self, domain, site):
        self.sites[f"mta-sts.{domain}"] = site
        return site

    def asked(self, domain):
        return len([1 for host, path, _ in self.log if host == f"mta-sts.{domain}" and path == PATH])

    def _on_sni(self, tls, name, _):
        self.handshakes.append(name)
        site = self.sites.get(name)
        if site is None:
            return ssl.ALERT_DESCRIPTION_UNRECOGNIZED_NAME
        if site.cert not in self._contexts:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*site.cert)
            self._contexts[site.cert] = context
        tls.context = self._contexts[site.cert]
        return None

    def serve(self, request):
        host = request.headers.get("Host", "").partition(":")[0].lower()
        self.log.append((host, request.path, time.monotonic()))
        site = self.sites.get(host)
        request.close_connection = True
        if site is None or request.path != PATH:
            request.send_error(404)
            return
        time.sleep(site.delay_s)
        request.send_response(site.status)
        request.send_header("Content-Type", site.content_type)
        for name, value in site.headers.items():
            request.send_header(name, value)
        if site.endless:
            request.send_header("Transfer-Encoding", "chunked")
            request.end_headers()
            try:
                while True:
                    request.wfile.write(b"400\r\n" + b"x" * 1022 + b"\r\n" + b"\r\n")
            except OSError:
                return
        request.send_header("Content-Length", str(len(site.body)))
        request.end_headers()
        request.wfile.write(site.body)

    def stop(self):
        self.server.shutdown()
        self.server.server_close()
