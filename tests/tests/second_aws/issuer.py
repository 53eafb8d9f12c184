"""Plays an identity provider on 127.0.0.1: its configuration and public key, as OpenID Connect has them, and at /tokens
what it would give to callers, good and bad.

Arguments: port, audience, scope.
"""

import base64
import json
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa


def encoded(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def token(key, claims):
    header = {"alg": "RS256", "kid": "one", "typ": "JWT"}
    signed = ".".join(encoded(json.dumps(part).encode()) for part in (header, claims))
    signature = key.sign(signed.encode(), padding.PKCS1v15(), hashes.SHA256())
    return f"{signed}.{encoded(signature)}"


def answers(issuer, audience, scope):
    key, other = (rsa.generate_private_key(public_exponent=65537, key_size=2048) for _ in range(2))
    numbers = key.public_key().public_numbers()
    now = int(time.time())
    claims = {"iss": issuer, "aud": audience, "sub": "alice", "scope": scope, "iat": now, "exp": now + 3600}
    public = {
        "kty": "RSA",
        "kid": "one",
        "alg": "RS256",
        "use": "sig",
        "n": encoded(numbers.n.to_bytes(256, "big")),
        "e": encoded(numbers.e.to_bytes(3, "big")),
    }
    tokens = {
        "valid": token(key, claims),
        "other_audience": token(key, claims | {"aud": "another"}),
        "other_issuer": token(key, claims | {"iss": "https://another.example"}),
        "other_key": token(other, claims),
        "other_scope": token(key, claims | {"scope": "openid"}),
        "expired": token(key, claims | {"exp": now - 60}),
    }
    return {
        "/.well-known/openid-configuration": {"issuer": issuer, "jwks_uri": f"{issuer}/keys"},
        "/keys": {"keys": [public]},
        "/tokens": tokens,
    }


def main(port, audience, scope):
    known = answers(f"http://127.0.0.1:{port}", audience, scope)

    class Issuer(BaseHTTPRequestHandler):
        def do_GET(self):
            body = json.dumps(known.get(self.path)).encode()
            self.send_response(200 if self.path in known else 404)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    ThreadingHTTPServer(("127.0.0.1", int(port)), Issuer).serve_forever()


main(*sys.argv[1:])
