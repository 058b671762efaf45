"""Settings to be checked, and the keys they name."""

from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

LEAST = """
hostname = "mail.example.com"
data_dir = "data"
"""
LISTENER = """
[[listener]]
address = "127.0.0.1:2525"
tls = "none"
auth = "off"
[submission]
trusted_networks = ["127.0.0.0/8"]
"""


def said(problems, folder):
    return [str(problem).replace(f"{folder}/", "").removeprefix("relay.toml: ") for problem in problems]


def write_key(path, key, encryption=None, mode=0o600):
    path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption or NoEncryption()))
    path.chmod(mode)
    return path


DKIM = LISTENER + '[dkim."example.com"]\nselector = "s"\nkey = "dkim.key"\n'
