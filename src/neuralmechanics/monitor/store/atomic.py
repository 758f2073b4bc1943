"""JSON files with a checksum, published whole; and publishing itself, for those who write into a store."""

from __future__ import annotations

import json
import zlib
from pathlib import Path
from typing import Any

from neuralmechanics.files import parse_json, read_regular
from neuralmechanics.files.publishing import (
    is_leftover,
    make_folder,
    publish,
    publish_folder,
    publishing,
    remove_leftovers,
    sync_folder,
    write_all,
)

__all__ = [
    "is_leftover",
    "make_folder",
    "publish",
    "publish_folder",
    "publish_json",
    "publishing",
    "read_json",
    "remove_leftovers",
    "sync_folder",
    "write_all",
]

# A description holds a configuration and symmetries: 200,002 charges take 60 MB.
_JSON_BYTES = 1 << 30


def publish_json(path: Path, content: dict[str, Any]) -> None:
    """Publish `{"crc32": …, "content": …}`; the checksum is over the canonical text of the content."""
    document = {"crc32": zlib.crc32(_canonical(content)), "content": content}
    publish(path, json.dumps(document, indent=1, ensure_ascii=True).encode())


def read_json(path: Path) -> dict[str, Any]:
    """The content of a published JSON file; `ValueError` when it does not match its checksum."""
    try:
        document = parse_json(read_regular(path, _JSON_BYTES))
        content, checksum = document["content"], document["crc32"]
    except FileNotFoundError:
        raise
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is damaged: {error}") from None
    if not isinstance(content, dict) or checksum != zlib.crc32(_canonical(content)):
        raise ValueError(f"{path} is damaged: its checksum does not match its content")
    return content


def _canonical(content: Any) -> bytes:
    # The same text in whatever order the keys stand: the checksum is of the content.
    return json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode()
