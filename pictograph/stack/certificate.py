"""The certificate by which SeaweedFS's parts, and we, know each other: self-signed and made anew at each start.

Python's standard library cannot make certificates, so openssl(1) does; where it is missing there is none.
"""

import logging
import shutil
import ssl
import subprocess
from pathlib import Path

from pictograph.stack.ports import HOST
from pictograph.stack.processes import ENVIRONMENT
from pipeline.errors import ServiceDown

log = logging.getLogger(__name__)

_EXTENSIONS = (
    f"subjectAltName=IP:{HOST}",
    "keyUsage=critical,digitalSignature,keyCertSign",
    "extendedKeyUsage=serverAuth,clientAuth",
)


def fresh() -> str | None:
    """A new private key and its certificate, in one PEM text; None without openssl.

    Raises:
        ServiceDown: openssl fails.
    """
    openssl = shutil.which("openssl", path=ENVIRONMENT["PATH"])
    if openssl is None:
        log.warning("openssl is not installed; other users of this machine can reach the inner ports of SeaweedFS.")
        return None
    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
    name = ("-subj", "/CN=pictograph", "-days", "36500")
    extensions = [word for extension in _EXTENSIONS for word in ("-addext", extension)]
    where = ("-keyout", "/dev/stdout", "-out", "/dev/stdout")
    done = subprocess.run(
        [openssl, "req", "-x509", *key, *name, *extensions, *where],
        capture_output=True,
        text=True,
        env=ENVIRONMENT,
        check=False,
    )
    if done.returncode != 0 or "PRIVATE KEY" not in done.stdout or "BEGIN CERTIFICATE" not in done.stdout:
        raise ServiceDown(f"openssl makes no certificate; it says: {' '.join(done.stderr.split())[-300:]}")
    return done.stdout


def context(pem: Path) -> ssl.SSLContext:
    """To speak with whoever holds the same certificate, and nobody else."""
    both = ssl.create_default_context(cafile=pem)
    both.load_cert_chain(pem)
    return both
