"""What lies under a path, asked without an exception."""

from __future__ import annotations

from pathlib import Path

import pytest

from audioclf.files import exists, is_dir, is_file


def test_what_lies_under_a_path(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    assert [test(file) for test in (exists, is_file, is_dir)] == [True, True, False]
    assert [test(tmp_path) for test in (exists, is_file, is_dir)] == [True, False, True]


@pytest.mark.parametrize("name", ["gone", "file/below", "a" * 300, "nul\0", "loop"])
def test_there_is_nothing_under_what_can_be_no_path(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    assert not any(test(tmp_path / name) for test in (exists, is_file, is_dir))


def test_there_is_nothing_in_a_folder_that_may_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(path: Path, **_: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "stat", refused)
    assert not any(test(Path("/home/other/model")) for test in (exists, is_file, is_dir))
