"""Whose word is taken for who answers, where natlab's own parts call each other by https."""

from __future__ import annotations

import os
import ssl

import httpx

from nat_core.errors import NatlabError


def trusted(url: str, error: type[NatlabError]) -> ssl.SSLContext:
    """What httpx's `verify` takes: `SSL_CERT_FILE` or `SSL_CERT_DIR` says, else the authorities that all know.

    httpx heeds these two only together with the proxies that the environment names, which are for the outside and not
    for one's own server. Over plain http nobody is asked, so that no list of authorities need be read.

    Args:
        error: raised where what `SSL_CERT_FILE` names holds no certificate.
    """
    if not url.lower().startswith("https:"):
        return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # one that trusts nobody
    try:
        return httpx.create_ssl_context()
    except OSError as reason:
        file = os.environ.get("SSL_CERT_FILE")
        raise error(
            f"SSL_CERT_FILE is {file!r}, which holds no certificates that can be read ({reason}); correct it"
        ) from None
