"""
Every error the Lambdas raise on purpose.

Whatever leaves a handler makes the invocation fail: AWS runs it again and keeps
the event in the dead-letter queue after the last try.  So an error is raised
for what a retry or a person can mend, and for nothing else.

    LambdaError
    +-- SettingError             a setting is missing or wrong
    +-- UnknownEventError        the event has a shape nobody described
    +-- RetryLaterError          another invocation is at work on this upload
    +-- JobRefusedError          MediaConvert will never take this job
    +-- NoPlaylistError          a finished job left nothing that plays
    +-- PlaylistError            a master playlist cannot be read
    +-- GatewayRefusedError      the gateway's answer is final
    `-- GatewayUnavailableError  the gateway is away; the same post can work later
"""


class LambdaError(Exception):
    """Base class; caught by the handlers only."""


class SettingError(LambdaError):
    """
    A setting is missing or wrong.

    Attributes:
        setting: The environment variable to look at.
    """

    def __init__(self, setting: str, problem: str) -> None:
        super().__init__(f"{setting}: {problem}")
        self.setting = setting


class UnknownEventError(LambdaError):
    """The event has a shape nobody described; the text says where it differs."""


class RetryLaterError(LambdaError):
    """Another invocation may be making the job of this upload right now."""


class JobRefusedError(LambdaError):
    """MediaConvert refused the job for good; the text is AWS's own."""


class NoPlaylistError(LambdaError):
    """A finished job left no master playlist that could be named."""


class PlaylistError(LambdaError):
    """
    A master playlist breaks RFC 8216, or is larger than any of ours.

    Attributes:
        line: Which one, from 1.
    """

    def __init__(self, line: int, problem: str) -> None:
        super().__init__(f"line {line}: {problem}")
        self.line = line


class GatewayRefusedError(LambdaError):
    """
    The gateway's answer is final: the same post can never be accepted.

    Attributes:
        status: The HTTP status.
    """

    def __init__(self, status: int, answer: str) -> None:
        super().__init__(f"the gateway refused the post with {status}: {answer}")
        self.status = status


class GatewayUnavailableError(LambdaError):
    """
    The gateway cannot be reached, cannot store now, or somebody answered for it.

    Nothing is known to be stored; the same post again does no harm.
    """
