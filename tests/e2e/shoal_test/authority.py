"""
A certificate authority of a test's own, by the openssl program: certificates with any dates and extensions, chains,
revocation lists. Certificates.make() has those that all tests share.
"""
import datetime
import os
import pathlib

from .certificates import _openssl

SERVER = "subjectAltName=DNS:localhost,IP:127.0.0.1\nextendedKeyUsage=serverAuth"
CLIENT = "extendedKeyUsage=clientAuth"

_CONFIG = """
[ca]
default_ca = it
[it]
database = {folder}/index.txt
new_certs_dir = {folder}
rand_serial = yes
default_md = sha256
default_crl_days = 30
policy = any
unique_subject = no
copy_extensions = none
crlnumber = {folder}/crlnumber
[any]
commonName = supplied
organizationName = optional
"""


def when(days):
    """Now and so many days, as openssl wants it."""
    return (datetime.datetime.utcnow() + datetime.timedelta(days=days)).strftime("%Y%m%d%H%M%SZ")


class Authority:
    """Keeps NAME.pem, NAME.key and what it issues in `folder`; signed by `parent`, or by itself."""

    def __init__(self, folder, name="ca", parent=None, days=(-1, 30)):
        self.folder, self.name, self.parent = pathlib.Path(folder), name, parent
        self.own = self.folder / (name + ".d")
        self.own.mkdir(parents=True)
        (self.own / "index.txt").touch()
        (self.own / "crlnumber").write_text("01\n")
        (self.own / "conf").write_text(_CONFIG.format(folder=self.own))
        self._request(name, "/CN=Test " + name, "ec")
        extensions = "basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign,cRLSign\n" \
                     "subjectKeyIdentifier=hash\n"
        self._sign(name, extensions, days, by=parent or self)

    def path(self, name):
        return str(self.folder / name)

    @property
    def certificate(self):
        return self.path(self.name + ".pem")

    def _request(self, name, subject, key):
        kind = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"] if key == "ec" else ["-newkey", key]
        _openssl("req", "-new", *kind, "-nodes", "-subj", subject, "-keyout", self.path(name + ".key"),
                 "-out", self.path(name + ".csr"))

    def _sign(self, name, extensions, days, by):
        (self.folder / (name + ".ext")).write_text(extensions + "\n")
        signer = ["-selfsign"] if by is self and name == self.name else ["-cert", by.certificate]
        _openssl("ca", "-batch", "-notext", "-config", str(by.own / "conf"), *signer, "-keyfile", by.path(by.name + ".key"),
                 "-in", self.path(name + ".csr"), "-out", self.path(name + ".pem"), "-extfile", self.path(name + ".ext"),
                 "-startdate", when(days[0]), "-enddate", when(days[1]))

    def issue(self, name, subject=None, extensions=SERVER, days=(-1, 30), key="ec"):
        """NAME.pem and NAME.key; the path of the certificate."""
        self._request(name, subject or "/CN=" + name, key)
        self._sign(name, extensions, days, by=self)
        return self.path(name + ".pem")

    def chain(self, name):
        """NAME.pem followed by the authorities up to, without the root; the path of NAME.chain.pem."""
        texts, authority = [(self.folder / (name + ".pem")).read_text()], self
        while authority.parent:
            texts.append(pathlib.Path(authority.certificate).read_text())
            authority = authority.parent
        return self.write(name + ".chain.pem", "".join(texts))

    def revoke(self, name):
        _openssl("ca", "-config", str(self.own / "conf"), "-cert", self.certificate, "-keyfile", self.path(self.name + ".key"),
                 "-revoke", self.path(name + ".pem"))

    def crl(self, name="crl.pem", days=(-1, 30)):
        """The list of what is revoked now; its path."""
        _openssl("ca", "-gencrl", "-config", str(self.own / "conf"), "-cert", self.certificate, "-keyfile",
                 self.path(self.name + ".key"), "-crl_lastupdate", when(days[0]), "-crl_nextupdate", when(days[1]),
                 "-out", self.path(name + ".new"))
        os.rename(self.path(name + ".new"), self.path(name))
        return self.path(name)

    def revoke_numbers(self, count):
        """Revokes so many certificates that nobody has."""
        with open(self.own / "index.txt", "a") as index:
            for number in range(count):
                index.write("R\t%s\t%s\t%040X\tunknown\t/CN=x\n" % (when(30)[2:], when(-1)[2:], (7 << 150) + number))

    def write(self, name, text):
        """A file in the folder, put in place at once, as programs that renew certificates do."""
        path = self.path(name)
        with open(path + ".new", "w") as out:
            out.write(text)
        os.rename(path + ".new", path)
        return path
