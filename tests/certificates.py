"""Certificates of sites, made again for tests: by whom, and until when they are valid."""

import json
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization


def authority(folder):
    """The certificate and the private key of the authority of a project that was provisioned in ``folder``."""
    state = json.loads((folder / "federation" / "state" / "cert.json").read_text(encoding="utf-8"))
    key = serialization.load_pem_private_key(state["root_pri_key"].encode(), password=None)
    return x509.load_pem_x509_certificate(state["root_cert"].encode()), key


def certify_again(kit, by, key, end):
    """Another certificate for the site of a kit: the same names and key, another signature and end."""
    path = kit / "startup" / "client.crt"
    old = x509.load_pem_x509_certificate(path.read_bytes())
    begin = min(end, datetime.now(UTC)) - timedelta(days=30)
    builder = x509.CertificateBuilder(
        by.subject, old.subject, old.public_key(), x509.random_serial_number(), begin, end
    )
    for extension in old.extensions:
        builder = builder.add_extension(extension.value, extension.critical)
    path.write_bytes(builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
