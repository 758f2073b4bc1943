"""Publishing a file: it is either absent or complete and on the disk, whatever kills the process."""

from __future__ import annotations

import json
import os
import zlib
from pathlib import Path
from typing import Any

_TEMPORARY = ".tmp-"


def publish(path: Path, content: bytes) -> None:
    """Write, fsync, rename, fsync the folder: after the return the file survives a kill and a power cut."""
    temporary = path.with_name(f"{_TEMPORARY}{os.getpid()}-{path.name}")
    with open(temporary, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable; a system without folder handles (Windows) has nothing to sync."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def remove_leftovers(folder: Path) -> None:
    """Delete the temporary files that a killed writer left behind; they were never part of the run."""
    for leftover in folder.glob(f"{_TEMPORARY}*"):
        leftover.unlink(missing_ok=True)


def publish_json(path: Path, content: dict[str, Any]) -> None:
    """Publish `{"crc32": …, "content": …}`; the checksum is over the canonical text of the content."""
    document = {"crc32": zlib.crc32(_canonical(content)), "content": content}
    publish(path, json.dumps(document, indent=1, ensure_ascii=False).encode())


def read_json(path: Path) -> dict[str, Any]:
    """The content of a published JSON file; `ValueError` when it does not match its checksum."""
    try:
        document = json.loads(path.read_bytes())
        content, checksum = document["content"], document["crc32"]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is damaged: {error}") from None
    if not isinstance(content, dict) or checksum != zlib.crc32(_canonical(content)):
        raise ValueError(f"{path} is damaged: its checksum does not match its content")
    return content


def _canonical(content: Any) -> bytes:
    return json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode()
