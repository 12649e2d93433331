"""
Which trace of AWS X-Ray this invocation belongs to, in the words of W3C.

Source: AWS X-Ray developer guide, "Tracing header"; Lambda developer guide, "Defined
runtime environment variables"; W3C Trace Context, "traceparent Header".
"""

import os
import re
from collections.abc import Mapping

VARIABLE = "_X_AMZN_TRACE_ID"

_ROOT = re.compile(r"1-([0-9a-f]{8})-([0-9a-f]{24})", re.ASCII)
_PARENT = re.compile(r"[0-9a-f]{16}", re.ASCII)


def traceparent(environ: Mapping[str, str] = os.environ) -> str | None:
    """Write the header ``traceparent`` of a post; None outside of any trace."""
    parts = (part.partition("=") for part in environ.get(VARIABLE, "").split(";"))
    said = {name.strip(): value.strip() for name, _, value in parts}
    root = _ROOT.fullmatch(said.get("Root", ""))
    parent = said.get("Parent", "")
    if root is None or not _PARENT.fullmatch(parent):
        return None
    return f"00-{root[1]}{root[2]}-{parent}-0{int(said.get('Sampled') == '1')}"
