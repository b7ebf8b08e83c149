"""Files of rows: what every reader and writer has in common. `negrl verify` tests the batches in and out."""

import gzip
import os
from pathlib import Path

import pytest

from negrl import files
from negrl.errors import InputError
from negrl.files import iterate_rows, open_atomic, read_rows, write_atomic


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


@pytest.mark.parametrize("nameless", [True, False])
def test_a_file_is_replaced_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, nameless: bool
) -> None:
    """With a temporary file that has no name (where there are such), and with one that has."""
    if not nameless:
        monkeypatch.setattr(files.atomic, "_nameless", lambda _: None)
    hidden = files.atomic._nameless(tmp_path)
    file = tmp_path / "sub" / "f"
    write_atomic(file, b"old")
    with pytest.raises(KeyboardInterrupt), open_atomic(file) as handle:
        handle.write(b"half")
        assert len(names(file.parent)) == (2 if hidden is None else 1) and file.read_bytes() == b"old"
        raise KeyboardInterrupt
    if hidden is not None:
        hidden.close()
    assert (names(file.parent), file.read_bytes()) == (["f"], b"old")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(InputError, match="sub/f: cannot be written: No space left on device"):
            write_atomic(file, b"new")
    assert (names(file.parent), file.read_bytes()) == (["f"], b"old")
    write_atomic(file, b"new")
    assert (names(file.parent), file.read_bytes()) == (["f"], b"new")


def test_a_folder_is_not_a_file_to_write(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is a folder, expected a file name"):
        write_atomic(tmp_path, b"")
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="file/f: cannot be written: Not a directory"):
        write_atomic(tmp_path / "file" / "f", b"")


@pytest.mark.parametrize("name", ["a.jsonl.gz", "a.JSONL.GZ"])
def test_gzip_is_known_by_the_name(tmp_path: Path, name: str) -> None:
    with open_atomic(tmp_path / name) as handle:
        handle.write(b'{"a": 1}\n')
    first = (tmp_path / name).read_bytes()
    assert gzip.decompress(first) == b'{"a": 1}\n'
    assert read_rows(tmp_path / name) == [(1, {"a": 1})]
    (tmp_path / name).write_bytes(first[:-4])
    with pytest.raises(InputError, match="not a whole gzip file"):
        read_rows(tmp_path / name)


def test_a_bad_line_is_named(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    for content, line, words in (
        (b'{"a": 1}\n\n{"a": ', 3, "not valid JSON (Expecting value at column 7)"),
        (b'{"a": "\xe9"}\n', 1, "not UTF-8 text"),
        (b"[1]\n", 1, "expected a JSON object, got list"),
        (b"[" * 100_000 + b"\n", 1, "not usable JSON (nested too deep)"),
    ):
        file.write_bytes(content)
        with pytest.raises(InputError) as caught:
            read_rows(file)
        assert str(caught.value) == f"{file}:{line}: {words}"
    file.write_bytes(b'\xef\xbb\xbf{"a": 1}\r\n\r\n{"b": 2}')
    assert list(iterate_rows(file)) == [(1, {"a": 1}), (3, {"b": 2})]
    file.write_bytes(b" \n")
    with pytest.raises(InputError, match=f"no problems in {file}"):
        read_rows(file)
    with pytest.raises(InputError, match=r"b.jsonl: no such file \(did you mean 'a.jsonl'"):
        read_rows(tmp_path / "b.jsonl")
