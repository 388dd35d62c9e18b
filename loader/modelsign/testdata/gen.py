"""Makes the bundles here, with OpenSSF's own signer, from the keys and files here.

    pip install model-signing==1.1.1 pyopenssl==26.4.0
    python3 gen.py

Signatures are random: a new run changes every file, and none of the tests.
"""
import datetime
import os
import pathlib

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
import model_signing

here = pathlib.Path(__file__).parent
files = here / "files"
drop = here.parent.parent / "testdata" / "signed"


def key(name, curve):
    private = ec.generate_private_key(curve)
    pem = here / (name + ".key")  # not kept: nobody needs to sign more
    pem.write_bytes(private.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))
    public = private.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    (here / (name + ".pub")).write_bytes(public)
    return private, pem


def sign(pem, name, at=files, hashing=None):
    config = model_signing.signing.Config().use_elliptic_key_signer(private_key=pem)
    if hashing:
        config.set_hashing_config(hashing)
    config.sign(at, name)


def certificate(private, pem):
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test")])
    now = datetime.datetime(2026, 1, 1)
    cert = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(private.public_key()).serial_number(1)
        .not_valid_before(now).not_valid_after(now + datetime.timedelta(days=36500))
        .add_extension(x509.KeyUsage(True, False, False, False, False, False, False, False, False), True)
        .sign(private, hashes.SHA256())
    )
    path = here / "cert.pem"
    path.write_bytes(cert.public_bytes(serialization.Encoding.PEM))
    model_signing.signing.Config().use_certificate_signer(
        private_key=pem, signing_certificate=path, certificate_chain=[path]
    ).sign(files, here / "certificate.sig")
    path.unlink()


hashing = model_signing.hashing.Config
p256, pem = key("p256", ec.SECP256R1())
sign(pem, here / "good.sig")
sign(pem, here / "blake3.sig", hashing=hashing().use_file_serialization(hashing_algorithm="blake3"))
sign(pem, here / "blake2.sig", hashing=hashing().use_file_serialization(hashing_algorithm="blake2"))
sign(pem, here / "shards.sig", hashing=hashing().use_shard_serialization(shard_size=2))
sign(pem, drop / "model.sig", at=drop, hashing=hashing().set_ignored_paths(paths=[drop / "model.sig"], ignore_git_paths=True))
certificate(p256, pem)
os.unlink(pem)
_, pem = key("p384", ec.SECP384R1())
sign(pem, here / "p384.sig")
os.unlink(pem)
