"""
The gateway from Python: register, upload, watch, and wait until it is ready.

    async with Client("https://video.example.com/", api_key=key) as gateway:
        registered = await gateway.upload("clip.mp4")
        file = await gateway.ready(registered.file.id, timeout_s=600)
        print(file.playback.hls_url)

An event is the whole state of the file, so only the newest seq counts, and a
watch picks up after any break where it was.  Credentials go to the gateway's
own address only: no redirect is followed, and a signed upload carries none.
"""

from gateway.client.calls import Client, Connection
from gateway.client.errors import (
    NotAGatewayError,
    NotPlayableError,
    RefusedError,
    UploadError,
)
from gateway.client.registered import Registered, SignedUpload, Watch

__all__ = [
    "Client",
    "Connection",
    "NotAGatewayError",
    "NotPlayableError",
    "RefusedError",
    "Registered",
    "SignedUpload",
    "UploadError",
    "Watch",
]
