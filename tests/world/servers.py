"""
Postfix and Exim, as Debian built them, run from the tree that scripts/world-fetch unpacked.  They want to be
root and to change to users of their own, so they live in a jail: as root a plain chroot, otherwise a user
namespace with a range of subordinate ids (newuidmap), where root is nobody outside.
"""

import email
import email.policy
import os
import pathlib
import shutil
import signal
import subprocess

from . import net

TOP = pathlib.Path(__file__).resolve().parents[2]
WORLD = pathlib.Path(os.environ.get("HAYAUMA_WORLD") or TOP / "build-world")
ROOT = WORLD / "root"
LIBRARIES = ":".join(str(ROOT / d) for d in (
    "usr/lib/x86_64-linux-gnu", "lib/x86_64-linux-gnu", "usr/lib/aarch64-linux-gnu", "lib/aarch64-linux-gnu"))


def program(build, name):
    """The path of one of our programs in a build folder."""
    for folder in ("", "engine", "webui-api"):
        path = pathlib.Path(build) / folder / name
        if path.is_file():
            return str(path)
    raise FileNotFoundError(f"no {name} in {build}: build first (ninja -C {build})")


def from_tree(program):
    """A command that runs an ordinary program of the tree with the tree's own loader and libraries."""
    loaders = sorted(ROOT.glob("lib*/ld-linux-*.so.*")) or sorted(ROOT.glob("lib/*/ld-linux-*.so.*"))
    return [str(loaders[0]), "--library-path", LIBRARIES, str(ROOT / program)]


def jail(*command):
    """The command inside the jail."""
    if os.geteuid() == 0:
        return ["chroot", str(ROOT), *command]
    inner = 'for d in null zero random urandom; do mount --bind "/dev/$d" "$0/dev/$d"; done; exec chroot "$0" "$@"'
    return ["unshare", "--user", "--map-root-user", "--map-auto", "--mount", "sh", "-c", inner, str(ROOT), *command]


def outside(*command):
    """The command with the ids of the jail, but in the ordinary file system: to clean up what jailed ids own."""
    if os.geteuid() == 0:
        return list(command)
    return ["unshare", "--user", "--map-root-user", "--map-auto", *command]


def jail_works():
    """None, or why real mail servers cannot run here."""
    if not (ROOT / ".fetched").exists():
        return "the server packages are not there: run scripts/world-fetch"
    make_devices()
    try:
        done = subprocess.run(jail("/usr/sbin/postconf", "-d", "mail_version"), capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    return None if done.returncode == 0 else "no jail without root here: " + done.stderr.strip()


def make_devices():
    for name, minor in (("null", 3), ("zero", 5), ("random", 8), ("urandom", 9)):
        path = ROOT / "dev" / name
        if path.exists():
            continue
        try:
            if os.geteuid() == 0:
                os.mknod(path, 0o666 | 0o020000, os.makedev(1, minor))
                os.chmod(path, 0o666)
            else:
                path.touch()
        except PermissionError:
            path.touch()  # a plain file is enough where device nodes are forbidden


class MailServer:
    """
    What Postfix and Exim share: a folder in the jail, Maildirs with what arrived, and an end.  `faces` are further
    addresses with a certificate of their own, or without TLS: [(address, (certificate file, key file) or None)].
    """

    kind = ""

    def __init__(self, instance, address, port, host, cert, tls=True, relay=None, faces=()):
        self.address, self.port, self.host, self.cert, self.tls, self.relay = address, port, host, cert, tls, relay
        self.faces = list(faces)
        self.inside = f"/instances/{instance}-{self.kind}"
        self.folder = ROOT / self.inside[1:]
        self.process = None

    def _make(self, *folders):
        self._remove()
        make_devices()
        for name in folders:
            (self.folder / name).mkdir(parents=True)
        self._copy_pair(self.cert, "cert.pem", "key.pem")
        for address, pair in self.faces:
            if pair:
                self._copy_pair(pair, f"{address}.pem", f"{address}.key")

    def _copy_pair(self, pair, certificate, key):
        shutil.copy(pair[0], self.folder / "etc" / certificate)
        shutil.copy(pair[1], self.folder / "etc" / key)
        os.chmod(self.folder / "etc" / key, 0o644 if self.kind == "exim" else 0o600)

    def _own(self, user, *paths):
        subprocess.run(outside("chown", "-R", user, *[str(self.folder / p) for p in paths]), check=True)

    def _spawn(self, *command, **more):
        self.process = subprocess.Popen(
            jail(*command), stdin=subprocess.DEVNULL, stdout=open(self.folder / "stdout", "wb"), stderr=subprocess.STDOUT,
            start_new_session=True, **more)
        for address in [self.address, *[a for a, _ in self.faces]]:
            if not net.wait_for_port(address, self.port, 20, lambda: self.process.poll() is None):
                raise RuntimeError(f"{self.kind} did not start: " + self.complaints())

    def complaints(self):
        texts = []
        for path in [self.folder / "stdout"] + sorted((self.folder / "log").glob("*")):
            try:
                texts.append(path.read_text(errors="replace")[-1500:])
            except OSError:
                pass
        return "\n".join(texts)

    def messages(self):
        """Everything that arrived: email messages, the envelope recipient in Delivered-To or Envelope-To."""
        found = []
        for box in ("new", "cur"):
            folder = self.folder / "mail/Maildir" / box
            for name in subprocess.run(outside("ls", str(folder)), capture_output=True, text=True).stdout.split():
                raw = subprocess.run(outside("cat", str(folder / name)), capture_output=True).stdout
                found.append(email.message_from_bytes(raw, policy=email.policy.compat32))
        return found

    def count(self):
        done = subprocess.run(outside("sh", "-c", f'ls -f "{self.folder}/mail/Maildir/new" 2>/dev/null | grep -vc "^[.]"'),
                              capture_output=True, text=True)
        return int(done.stdout or 0)

    def heads(self):
        """The header part of each message, as one text each: quick, for counting thousands."""
        script = (f'cd "{self.folder}/mail/Maildir/new" 2>/dev/null || exit 0; '
                  'find . -type f -print0 | xargs -0 -r awk \'FNR==1 {if (NR>1) printf "%c", 0; body=0} '
                  '/^\\r?$/ {body=1} !body {print}\'')
        raw = subprocess.run(outside("sh", "-c", script), capture_output=True).stdout
        return [h.decode("utf-8", "replace") for h in raw.split(b"\0") if h.strip()]

    def stop(self):
        if self.process:
            if self.process.poll() is None:
                self._end()
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                os.killpg(self.process.pid, signal.SIGKILL)
                self.process.wait()
            self.process = None
        self._remove()

    def _end(self):
        os.killpg(self.process.pid, signal.SIGTERM)

    def _remove(self):
        if self.folder.exists():
            subprocess.run(outside("rm", "-rf", "--one-file-system", str(self.folder)), check=True)


class Postfix(MailServer):
    """A receiver with a catch-all mailbox; local parts that begin with "unknown" get 550."""

    kind = "postfix"

    def start(self):
        self._make("etc", "spool/pid", "data", "mail", "log")
        for name in ("active bounce corrupt defer deferred flush hold incoming maildrop private public saved trace").split():
            (self.folder / "spool" / name).mkdir()
        relay = f"relayhost = [{self.relay[0]}]:{self.relay[1]}" if self.relay else "relayhost ="
        here = self.inside
        (self.folder / "etc/main.cf").write_text(f"""
compatibility_level = 3.6
queue_directory = {here}/spool
data_directory = {here}/data
command_directory = /usr/sbin
daemon_directory = /usr/lib/postfix/sbin
shlib_directory = /usr/lib/postfix
meta_directory = /etc/postfix
mail_owner = postfix
setgid_group = postdrop
maillog_file = {here}/log/mail
maillog_file_prefixes = {here}
myhostname = {self.host}
mydestination =
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
mynetworks = 127.0.0.0/8
alias_maps =
alias_database =
local_recipient_maps =
local_transport = error:no local mail
{relay}
virtual_mailbox_domains = {'' if self.relay else 'regexp:' + here + '/etc/domains'}
virtual_mailbox_maps = regexp:{here}/etc/users
virtual_mailbox_base = {here}/mail
virtual_uid_maps = static:101
virtual_gid_maps = static:101
smtpd_relay_restrictions = permit_mynetworks, reject
smtpd_recipient_restrictions =
smtpd_peername_lookup = no
smtpd_client_connection_count_limit = 0
smtpd_recipient_limit = 2000
smtpd_tls_security_level = {'may' if self.tls else 'none'}
smtpd_tls_cert_file = {here}/etc/cert.pem
smtpd_tls_key_file = {here}/etc/key.pem
smtpd_tls_received_header = yes
smtpd_tls_loglevel = 1
smtp_dns_support_level = disabled
smtp_tls_security_level = may
default_process_limit = 40
biff = no
in_flow_delay = 0
""")
        (self.folder / "etc/domains").write_text("/./ ok\n")
        (self.folder / "etc/users").write_text("!/^unknown/ Maildir/\n")
        services = ["pickup unix n - n 60 1", "cleanup unix n - n - 0", "qmgr unix n - n 300 1", "tlsmgr unix - - n 1000? 1",
                    "rewrite unix - - n - -", "bounce unix - - n - 0", "defer unix - - n - 0", "trace unix - - n - 0",
                    "verify unix - - n - 1", "flush unix n - n 1000? 0", "proxymap unix - - n - -", "smtp unix - - n - -",
                    "relay unix - - n - -", "error unix - - n - -", "retry unix - - n - -", "virtual unix - n n - -",
                    "anvil unix - - n - 1", "scache unix - - n - 1", "postlog unix-dgram n - n - 1"]
        program = {"rewrite": "trivial-rewrite", "defer": "bounce", "trace": "bounce", "relay": "smtp", "retry": "error",
                   "postlog": "postlogd"}
        lines = [f"{self.address}:{self.port} inet n - n - - smtpd"]
        for address, pair in self.faces:
            etc = f"{here}/etc/{address}"
            tls = [f"smtpd_tls_cert_file={etc}.pem", f"smtpd_tls_key_file={etc}.key"] if pair else ["smtpd_tls_security_level=none"]
            lines += [f"{address}:{self.port} inet n - n - - smtpd", *[f"  -o {option}" for option in tls]]
        lines += [f"{s} {program.get(s.split()[0], s.split()[0])}" for s in services]
        (self.folder / "etc/master.cf").write_text("\n".join(lines) + "\n")
        self._own("101", *[f"spool/{d}" for d in ("active bounce corrupt defer deferred flush hold incoming private saved trace").split()])
        self._own("101:103", "spool/maildrop", "spool/public")
        self._own("101", "data", "mail")
        subprocess.run(outside("chmod", "730", str(self.folder / "spool/maildrop")), check=True)
        subprocess.run(outside("chmod", "710", str(self.folder / "spool/public")), check=True)
        environment = {"PATH": "/usr/sbin:/usr/bin", "MAIL_CONFIG": f"{here}/etc"}
        self._spawn("/usr/lib/postfix/sbin/master", "-c", f"{here}/etc", "-d", env={**os.environ, **environment})
        return self

    def send(self, sender, recipients, text):
        """Injects a message as a local program would: sendmail."""
        subprocess.run(jail("/usr/sbin/sendmail", "-C", f"{self.inside}/etc", "-i", "-f", sender, *recipients),
                       input=text.encode(), check=True)

    def log(self):
        return (self.folder / "log/mail").read_text(errors="replace")


class Exim(MailServer):
    """The same with Exim."""

    kind = "exim"

    def start(self):
        self._make("etc", "spool", "mail", "log")
        here = self.inside
        certificate, key, advertise = f"{here}/etc/cert.pem", f"{here}/etc/key.pem", "*" if self.tls else ""
        for address, pair in self.faces:
            which = "${if eq{$received_ip_address}{%s}{%%s}{%%s}}" % address
            if pair:
                certificate, key = which % (f"{here}/etc/{address}.pem", certificate), which % (f"{here}/etc/{address}.key", key)
            else:
                advertise = which % ("", advertise)
        router = f"""
smarthost:
  driver = manualroute
  transport = out
  route_list = * {self.relay[0]}::{self.relay[1]} byname
  self = send
  host_find_failed = defer
""" if self.relay else """
mailbox:
  driver = accept
  transport = maildir
"""
        (self.folder / "etc/exim.conf").write_text(f"""
primary_hostname = {self.host}
local_interfaces = {" : ".join([self.address, *[a for a, _ in self.faces]])}
daemon_smtp_ports = {self.port}
disable_ipv6 = true
spool_directory = {here}/spool
log_file_path = {here}/log/%slog
pid_file_path = {here}/exim.pid
acl_smtp_rcpt = rcpt
acl_smtp_data = accept
dkim_verify_signers =
rfc1413_hosts =
rfc1413_query_timeout = 0s
helo_try_verify_hosts =
host_lookup =
smtp_accept_max = 100
smtp_accept_queue = 0
smtp_accept_queue_per_connection = 0
smtp_connect_backlog = 100
split_spool_directory = true
message_logs = false
deliver_drop_privilege = false
log_selector = +tls_cipher +smtp_connection +received_recipients
tls_advertise_hosts = {advertise}
tls_certificate = {certificate}
tls_privatekey = {key}
keep_environment =
never_users =
exim_user = exim
exim_group = mail
begin acl
rcpt:
  deny
    local_parts = ^unknown
    message = no such user here
  accept
begin routers
{router}
begin transports
maildir:
  driver = appendfile
  directory = {here}/mail/Maildir
  maildir_format
  create_directory
  delivery_date_add
  envelope_to_add
  return_path_add
  user = exim
  group = mail
out:
  driver = smtp
  port = {self.relay[1] if self.relay else 25}
  allow_localhost
  tls_try_verify_hosts =
begin retry
* * F,2h,1m
""")
        subprocess.run(outside("chown", "-R", "102:8", str(self.folder / "spool"), str(self.folder / "mail"), str(self.folder / "log")),
                       check=True)
        self._spawn("/usr/sbin/exim4", "-C", f"{here}/etc/exim.conf", "-bdf", "-q1m")
        return self

    def send(self, sender, recipients, text):
        subprocess.run(jail("/usr/sbin/exim4", "-C", f"{self.inside}/etc/exim.conf", "-i", "-f", sender, *recipients),
                       input=text.encode(), check=True)

    def log(self):
        return (self.folder / "log/mainlog").read_text(errors="replace")
