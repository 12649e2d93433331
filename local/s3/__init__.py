"""
An S3 stand-in that real clients and browsers talk to unchanged, path style.

The one rule: what S3 refuses, this refuses, with S3's own error code; and what
is not built answers ``NotImplemented`` instead of pretending.

Modules, from the wire inwards: `app` (one request), `*_operations` (what each
S3 operation does), `sigv4` and `body` (who sent it, and whether the bytes are
the signed ones), `store` and `disk` (what is kept), `notifications` (who is
told).
"""

from local.s3.app import S3

__all__ = ["S3"]
