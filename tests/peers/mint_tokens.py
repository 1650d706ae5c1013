"""Acts as four issuers: writes their keys into a folder and prints a token of each.

Arguments: the folder, the audience, the tenant, the scopes, and the shared secret of the HS256 issuer.
"""

import json
import sys
import time
from pathlib import Path

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.algorithms import ECAlgorithm

folder, audience, tenant, scopes, secret = Path(sys.argv[1]), *sys.argv[2:]


def token(name, key, algorithm, **headers):
    now = int(time.time())
    claims = {"iss": f"https://{name}.test", "aud": audience, "tenant": tenant, "scope": scopes}
    return jwt.encode(claims | {"iat": now, "exp": now + 86400}, key, algorithm, headers)


def pem(key):
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


rsa_key, stranger = (rsa.generate_private_key(65537, 2048) for _ in range(2))
ec_key = ec.generate_private_key(ec.SECP256R1())
ed_key = ed25519.Ed25519PrivateKey.generate()

(folder / "rs256.pem").write_bytes(pem(rsa_key))
(folder / "eddsa.pem").write_bytes(pem(ed_key))
jwk = json.loads(ECAlgorithm.to_jwk(ec_key.public_key())) | {"kid": "es256-1", "use": "sig"}
(folder / "es256.json").write_text(json.dumps({"keys": [jwk]}))
(folder / "hs256.txt").write_text(secret + "\n")

print(
    json.dumps(
        {
            "rs256": token("rs256", rsa_key, "RS256"),
            "es256": token("es256", ec_key, "ES256", kid="es256-1"),
            "eddsa": token("eddsa", ed_key, "EdDSA"),
            "hs256": token("hs256", secret, "HS256"),
            "stranger": token("rs256", stranger, "RS256"),
        }
    )
)
