"""
Small files that are there whole or not at all, whenever the writer dies.

Source: POSIX, "rename": whoever opens the name gets the old file or the new.
"""

from pathlib import Path


def write_whole(file: Path, text: str, *, mode: int = 0o644) -> None:
    """
    Put the text, ASCII, in place of the file's.

    Args:
        file: Its name with `.new` behind it is taken for the draft.
        text: All of it.
        mode: Of a file that never was more open than that, not even for a moment.

    Raises:
        OSError: It cannot be written; the file is as it was.
    """
    draft = file.with_name(f"{file.name}.new")
    draft.unlink(missing_ok=True)
    draft.touch(mode=mode, exist_ok=False)
    draft.write_text(text, encoding="ascii")
    draft.replace(file)
