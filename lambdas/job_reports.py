"""
What MediaConvert says of a job that has not completed, as reports; no I/O.

HLSFileManifestSaver hears it in events, the reconciler asks GetJob.  Both pass
on the same words, so whoever comes second changes nothing.

Source: MediaConvert user guide, "Error codes" and "STATUS_UPDATE".
"""

from lambdas.reports import Report, number, reported_error

_PHASES = {"PROBING", "TRANSCODING", "UPLOADING"}
_WHOLE = 100

_ERROR_CODES = {
    1010: "input_unreadable",
    1020: "no_video",
    1030: "unsupported_format",
    1075: "input_unreadable",
    1076: "input_unreadable",
    1092: "input_unreadable",
    1401: "storage_denied",
    1404: "input_missing",
}
"""MediaConvert's codes that say more than that the conversion failed."""


def progress_report(phase: object, percent: object) -> Report:
    """Percent and phase where MediaConvert gives them; it may give neither."""
    report: Report = {"type": "progress"}
    if isinstance(phase, str) and phase in _PHASES:
        report["phase"] = phase.lower()
    done = number(percent)
    if done is not None and 0 <= done <= _WHOLE:
        report["percent"] = int(done)
    return report


def failure_report(code: object, message: object) -> Report:
    """Why a job ended in ERROR, in words for the person who uploaded."""
    known = _ERROR_CODES.get(code) if type(code) is int else None
    text = (
        message if isinstance(message, str) and message.strip() else "no reason given"
    )
    error = reported_error(known or "conversion_failed", text)
    return {"type": "failed", "error": error}


def no_playlist_report() -> Report:
    """A job that completed without anything that could be played."""
    message = "The conversion ended without a playlist that can be played."
    return {"type": "failed", "error": reported_error("output_missing", message)}
