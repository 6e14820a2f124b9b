"""What scenarios of TLS reports (RFC 8460) need: the schema, a collector for POSTs, and a clock that is set back."""

import datetime
import email
import email.policy
import gzip
import http.server
import json
import socketserver
import sqlite3
import ssl
import threading
import time

import jsonschema

# RFC 8460 §4.4 as facts.  Strict: a field that the RFC does not know is a mistake of ours.
_TEXT = {"type": "string", "minLength": 1}
_TEXTS = {"type": "array", "items": _TEXT, "minItems": 1}
_COUNT = {"type": "integer", "minimum": 0, "maximum": 2**53}
_TIME = {"type": "string", "pattern": r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$"}
_RESULTS = [
    "starttls-not-supported", "certificate-host-mismatch", "certificate-expired", "certificate-not-trusted", "validation-failure",
    "tlsa-invalid", "dnssec-invalid", "dane-required", "sts-policy-fetch-error", "sts-policy-invalid", "sts-webpki-invalid"]


def _object(required, **properties):
    return {"type": "object", "required": required, "properties": properties, "additionalProperties": False}


SCHEMA = {
    "$schema": "http://json-schema.org/draft-07/schema#",
    **_object(
        ["organization-name", "date-range", "contact-info", "report-id", "policies"],
        **{
            "organization-name": _TEXT, "contact-info": _TEXT, "report-id": _TEXT,
            "date-range": _object(["start-datetime", "end-datetime"], **{"start-datetime": _TIME, "end-datetime": _TIME}),
            "policies": {"type": "array", "minItems": 1, "items": _object(
                ["policy", "summary"],
                policy={
                    **_object(["policy-type", "policy-domain"], **{
                        "policy-type": {"enum": ["tlsa", "sts", "no-policy-found"]}, "policy-string": _TEXTS,
                        "policy-domain": {"type": "string", "pattern": r"^[a-z0-9.-]+$"}, "mx-host": _TEXTS}),
                    # mx-host belongs to MTA-STS alone; what is no policy has no text
                    "if": {"properties": {"policy-type": {"const": "sts"}}},
                    "then": {"required": ["policy-string", "mx-host"]},
                    "else": {"not": {"required": ["mx-host"]}}},
                summary=_object(["total-successful-session-count", "total-failure-session-count"], **{
                    "total-successful-session-count": _COUNT, "total-failure-session-count": _COUNT}),
                **{"failure-details": {"type": "array", "minItems": 1, "items": _object(
                    ["result-type", "failed-session-count"], **{
                        "result-type": {"enum": _RESULTS}, "sending-mta-ip": _TEXT, "receiving-mx-hostname": _TEXT,
                        "receiving-mx-helo": _TEXT, "receiving-ip": _TEXT, "failed-session-count": {**_COUNT, "minimum": 1},
                        "additional-information": _TEXT, "failure-reason-code": _TEXT})}})}})}


def check(report):
    """The report, when it is as the RFC says; names that stand twice (I-JSON) are found too."""
    def once(pairs):
        assert len({k for k, _ in pairs}) == len(pairs), f"a name stands twice: {pairs}"
        return dict(pairs)
    if isinstance(report, (str, bytes)):
        report = json.loads(report, object_pairs_hook=once)
    jsonschema.validate(report, SCHEMA)
    for p in report["policies"]:
        details = sum(d["failed-session-count"] for d in p.get("failure-details", []))
        assert details == p["summary"]["total-failure-session-count"]
    return report


def sums(report):
    """{(policy type, result or ""): sessions}"""
    found = {}
    for p in report["policies"]:
        kind = p["policy"]["policy-type"]
        if p["summary"]["total-successful-session-count"]:
            found[kind, ""] = found.get((kind, ""), 0) + p["summary"]["total-successful-session-count"]
        for d in p.get("failure-details", []):
            found[kind, d["result-type"]] = found.get((kind, d["result-type"]), 0) + d["failed-session-count"]
    return found


def of_mail(octets):
    """(message, report) of a report mail that is built as §5.3 wants it."""
    message = email.message_from_bytes(octets, policy=email.policy.default)
    assert message.get_content_type() == "multipart/report"
    assert message["Content-Type"].params["report-type"] == "tlsrpt"
    text, attached = list(message.iter_parts())
    assert text.get_content_type() == "text/plain"
    assert attached.get_content_type() == "application/tlsrpt+gzip"
    return message, check(gzip.decompress(attached.get_content()))


class Collector:
    """An HTTPS server that takes reports.  `answers` are the statuses of the next requests; then 201."""

    def __init__(self, address, cert):
        self.answers, self.requests = [], []  # requests: (path, content type, octets, time)
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            timeout = 30

            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                outer.requests.append((self.path, self.headers["Content-Type"], body, time.monotonic()))
                status = outer.answers.pop(0) if outer.answers else 201
                self.send_response(status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_):
                pass

        class Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
            daemon_threads = True

            def server_bind(self):
                socketserver.TCPServer.server_bind(self)
                self.server_name, self.server_port = self.server_address[:2]

        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*cert)
        self.server = Server((address, 0), Handler)
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def stop(self):
        self.server.shutdown()
        self.server.server_close()


def day(days_ago=0):
    return (datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(days=days_ago)).strftime("%Y-%m-%d")


def a_day_passes(daemon, enabled=True, days=1):
    """What happened until now happened so many days ago, and reports of it are due; the daemon must be down."""
    daemon.config["tlsrpt"]["enabled"] = enabled
    for file in sorted((daemon.data / "history").glob("*.db")):
        with sqlite3.connect(file) as db:
            db.execute(f"UPDATE session SET at_ms = at_ms - {days} * 86400000")
        db.close()
        if days > 1:  # the file of a day is looked at for the days beside it, too
            for suffix in ("", "-wal", "-shm"):
                part = file.with_name(file.name + suffix)
                if part.exists():
                    part.rename(part.with_name(earlier(file.stem, days) + ".db" + suffix))
    with sqlite3.connect(daemon.data / "queue.db") as db:
        for (key,) in db.execute("SELECT key FROM keep WHERE kind = 'tlsrpt' ORDER BY key").fetchall():
            db.execute("UPDATE keep SET key = ? WHERE kind = 'tlsrpt' AND key = ?", (earlier(key[:10], days) + key[10:], key))
    db.close()


def earlier(text, days):
    return (datetime.date.fromisoformat(text) - datetime.timedelta(days=days)).isoformat()
