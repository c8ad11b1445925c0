"""Keys that a platform signs with, as files and as text. Pure.

In: the bytes of a PEM file (PKCS 8, as `danbao platforms key new` and `openssl genpkey -algorithm ed25519` write it),
or a public key as 64 hexadecimal digits. Out: an Ed25519 key (RFC 8032), or BadQuestion. What a signature must
hold for is in `ledger.identity`.
"""

import string

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from ledger.errors import BadQuestion
from ledger.identity import KEY_BYTES
from schemas.both import Both

HOW_TO = Both("Make one with: danbao platforms key new --out FILE", "生成密钥：danbao platforms key new --out 文件")


def private_pem(key: Ed25519PrivateKey) -> bytes:
    """A private key as its file holds it."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def public_text(key: Ed25519PrivateKey) -> str:
    """The public half as it is registered: 64 hexadecimal digits."""
    return key.public_key().public_bytes_raw().hex()


def read_private(pem: bytes, name: str) -> Ed25519PrivateKey:
    """The key of a PEM file; `name` says which in an error."""
    try:
        key = load_pem_private_key(pem, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):  # TypeError: it is encrypted
        key = None
    if not isinstance(key, Ed25519PrivateKey):
        raise BadQuestion(
            Both(
                f"{name} holds no Ed25519 private key in PEM without a password.",
                f"{name} 不是未加密的 PEM 格式 Ed25519 私钥。",
            ),
            HOW_TO,
        )
    return key


def read_public(text: str) -> bytes:
    """64 hexadecimal digits → the 32 bytes of a public key."""
    if len(text) != 2 * KEY_BYTES or not set(text) <= set(string.hexdigits):
        raise BadQuestion(
            Both(
                f"{text!r} is not a public key of 64 hexadecimal digits.",
                f"{text!r} 不是 64 位十六进制公钥。",
            ),
            Both(
                "Give it as danbao platforms key new prints it; the private key stays with the platform.",
                "请按 danbao platforms key new 的输出填写；私钥由平台企业自行保管。",
            ),
        )
    return bytes.fromhex(text)
