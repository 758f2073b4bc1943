"""What the search found once, and a short search of every reader."""

from __future__ import annotations

import math
import warnings
from pathlib import Path

import pytest
from tests.fuzzing.__main__ import FOUND, Search
from tests.fuzzing.coverage import Coverage
from tests.fuzzing.readers import Reader, all_readers

NAMES = ("runs", "toml", "targets", "idx", "cifar", "archives", "folders", "pictures", "tables", "weights")


@pytest.fixture(scope="module")
def readers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Reader]:
    return all_readers(tmp_path_factory.mktemp("templates"))


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEURALMECHANICS_CACHE", str(tmp_path / "cache"))


@pytest.mark.parametrize(
    "path", sorted(p for p in FOUND.rglob("*") if p.is_file()), ids=lambda p: "-".join(p.parts[-3:])
)
def test_what_was_found_stays_mended(readers: dict[str, Reader], path: Path, tmp_path: Path) -> None:
    reader, name = readers[path.parts[-3]], path.parts[-2].replace("+", "/")
    (tmp_path / Path(name).name).write_bytes(path.read_bytes())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        reader.read(tmp_path, name)


@pytest.mark.parametrize("name", NAMES)
def test_a_short_search_finds_nothing(readers: dict[str, Reader], name: str, tmp_path: Path) -> None:
    """The same inputs each time, whatever the machine and whatever ran before; `make fuzz` tries others."""
    search = Search(readers[name], tmp_path, seed=1, guided=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        search.run(math.inf, inputs={"runs": 40, "folders": 60}.get(name, 300))
    assert search.failures == []


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_guided_search_finds_nothing(readers: dict[str, Reader], name: str, tmp_path: Path) -> None:
    search = Search(readers[name], tmp_path, seed=1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        search.run(1.0)
    assert search.failures == []
    assert search.tried > len(readers[name].seeds)


def test_a_search_starts_from_the_same_files_each_time(readers: dict[str, Reader], tmp_path: Path) -> None:
    """No name of a run, no time of day is in them."""
    again = all_readers(tmp_path)
    assert {name: reader.seeds for name, reader in again.items()} == {n: r.seeds for n, r in readers.items()}


def test_the_search_is_guided_and_finds_what_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader that fails behind three places, each with a word of its own: blind changes would need millions."""
    from tests.fuzzing import __main__ as search_module

    def read(where: Path, name: str) -> None:
        content = (where / name).read_bytes()
        for place, byte in enumerate(b"abc"):
            if len(content) <= place or content[place] != byte:
                return
        raise KeyError("found")

    monkeypatch.setattr(search_module, "FOUND", tmp_path / "found")
    monkeypatch.setattr(search_module, "Coverage", lambda: Coverage("test_fuzzing"))
    search = Search(
        Reader("deep", {"x": bytes(3)}, read, [bytes([word]) for word in b"abcdefghijklmnop"]), tmp_path, seed=0
    )
    with monkeypatch.context() as patch:
        patch.setattr("builtins.print", lambda *words, **options: None)
        search.run(30.0, first=True)
    assert search.failures == ["KeyError: 'found'"]
