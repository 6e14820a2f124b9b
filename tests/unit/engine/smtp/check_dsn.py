#!/usr/bin/python3
"""Lets Python's mail parser judge our DSNs: check_dsn.py PATH-TO-test-engine-smtp-dsn

Every one must be a multipart/report of three parts without a defect, its second part a list of header groups with
the mandatory fields of RFC 3464.
"""
import email
import email.policy
import pathlib
import subprocess
import sys
import tempfile


def defects(part):
    found = list(part.defects)
    for sub in part.iter_parts() if part.is_multipart() and hasattr(part, "iter_parts") else []:
        found += defects(sub)
    return found


def check(path):
    octets = path.read_bytes()
    message = email.message_from_bytes(octets, policy=email.policy.default)
    assert message.get_content_type() == "multipart/report", message.get_content_type()
    assert message.get_param("report-type") == "delivery-status"
    assert not defects(message), defects(message)
    for name in ("Date", "From", "To", "Subject", "Message-ID", "MIME-Version", "Auto-Submitted", "Content-Type"):
        assert len(message.get_all(name)) == 1, name
    text, status, original = message.iter_parts()
    assert text.get_content_type() == "text/plain" and text.get_content().strip()
    assert status.get_content_type() in ("message/delivery-status", "message/global-delivery-status")
    if status.get_content_type() == "message/delivery-status":
        groups = status.get_payload()
    else:
        raw = status.get_payload(decode=True) or status.get_payload(0).as_bytes()
        groups = [email.message_from_bytes(g) for g in raw.replace(b"\r\n", b"\n").split(b"\n\n") if g.strip()]
    assert groups[0]["Reporting-MTA"].startswith("dns;")
    assert len(groups) >= 2
    for group in groups[1:]:
        for name in ("Final-Recipient", "Action", "Status"):
            assert len(group.get_all(name)) == 1, (name, group.items())
    assert original.get_content_type() in ("message/rfc822", "text/rfc822-headers", "message/global",
                                           "message/global-headers")


def main():
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([sys.argv[1], folder], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        paths = sorted(pathlib.Path(folder).glob("*.eml"))
        for path in paths:
            try:
                check(path)
            except Exception:
                print(path.read_bytes().decode(errors="replace"))
                raise
        print(f"{len(paths)} notifications are well-formed")


main()
