"""
Certificates for tests, made once per run with the openssl program and kept in the run's work folder: a CA with a
server and two clients, and a foreign CA with a client of its own. EC keys, since they are quick to make.
"""
import fcntl
import os
import pathlib
import ssl
import subprocess
import tempfile

_SERVER_NAMES = "subjectAltName=DNS:localhost,IP:127.0.0.1,IP:::1"


class Certificates:
    def __init__(self, folder):
        self.folder = pathlib.Path(folder)

    def path(self, name):
        return str(self.folder / name)

    def client_context(self, name=None, ca="ca.pem", check=True, minimum=None, maximum=None, alpn=None):
        """An ssl context for a client; `name`: its certificate (client, other, foreign)."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(self.path(ca))
        if not check:
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        if name:
            context.load_cert_chain(self.path(name + ".pem"), self.path(name + ".key"))
        if minimum:
            context.minimum_version = minimum
        if maximum:
            context.maximum_version = maximum
        if alpn:
            context.set_alpn_protocols(alpn)
        return context


def _openssl(*words):
    subprocess.run(["openssl", *words], check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                   stderr=subprocess.DEVNULL)


def _authority(folder, name):
    _openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "3650",
             "-subj", "/CN=Test " + name, "-keyout", str(folder / (name + ".key")), "-out", str(folder / (name + ".pem")))


def _signed(folder, name, authority, subject, extensions):
    request, key = str(folder / (name + ".csr")), str(folder / (name + ".key"))
    _openssl("req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", subject,
             "-keyout", key, "-out", request)
    extension_file = folder / (name + ".ext")
    extension_file.write_text(extensions + "\n")
    _openssl("x509", "-req", "-in", request, "-CA", str(folder / (authority + ".pem")), "-CAkey",
             str(folder / (authority + ".key")), "-CAcreateserial", "-days", "3650", "-extfile", str(extension_file),
             "-out", str(folder / (name + ".pem")))


def make():
    """The run's certificates; the first process makes them, others wait."""
    folder = pathlib.Path(os.environ.get("SHOAL_TEST_WORK", tempfile.gettempdir() + "/shoal-test")) / "certs"
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "done").exists():
            _authority(folder, "ca")
            _authority(folder, "foreign-ca")
            _signed(folder, "server", "ca", "/CN=localhost", _SERVER_NAMES)
            _signed(folder, "client", "ca", "/O=Shoal/CN=client one", "extendedKeyUsage=clientAuth")
            _signed(folder, "other", "ca", "/CN=other", "extendedKeyUsage=clientAuth")
            _signed(folder, "foreign", "foreign-ca", "/CN=client one", "extendedKeyUsage=clientAuth")
            (folder / "done").touch()
    return Certificates(folder)
