"""
What can go wrong for whoever asks a gateway; one tree with `gateway.errors`.

    GatewayError
    |-- UnavailableError        it is not there, or cannot now; later it can
    |-- RefusedError            it answered, and said no
    |-- NotAGatewayError        something else answers at its address
    |-- UploadError             the bytes did not reach the storage
    `-- NotPlayableError        the file has ended, and does not play
"""

from gateway.errors import GatewayError
from gateway.model import FileState


class RefusedError(GatewayError):
    """
    The gateway answered, and said no; asking the same again cannot help.

    Attributes:
        status: HTTP status.
        problem: The ``type`` of the problem document, if there was one.
    """

    code = "refused"

    def __init__(self, status: int, detail: str, problem: str | None = None) -> None:
        super().__init__(detail)
        self.status = status
        self.problem = problem


class NotAGatewayError(GatewayError):
    """What answers at this address does not speak like a gateway."""

    code = "not_a_gateway"

    def __init__(self, url: str, problem: str) -> None:
        super().__init__(f"{url} {problem}; is this the address of a gateway?")


class UploadError(GatewayError):
    """The storage refused the bytes, could not be reached, or the file changed."""

    code = "upload_failed"


class NotPlayableError(GatewayError):
    """
    The file ended as failed, canceled or expired.

    Attributes:
        file: Its last state, with `error`.
    """

    code = "not_playable"

    def __init__(self, file: FileState) -> None:
        super().__init__(file.error.message if file.error else file.status.value)
        self.file = file
