"""Two million rows are read within two gigabytes."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

GB = 1e9

READ = """
import sys
from pathlib import Path
from audioclf.clips.manifest import read_manifest
from audioclf.config import LinksData

data = {"name": "links", "csv": sys.argv[1], "multi_label": "first", "limit_per_class": 1500}
clips = read_manifest(LinksData.model_validate(data), Path()).clips
peak = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
print(len(clips), 1024 * int(peak.split()[1]))
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from /proc")
def test_two_million_rows_are_read_within_two_gigabytes(tmp_path: Path) -> None:
    table, rows, classes = tmp_path / "segments.csv", 2_000_000, 1000
    with table.open("w") as file:
        for number in range(rows):
            labels = f"class {number % classes},class {(number + 7) % classes}"
            file.write(f'{number:011d}, {number % 7919}.250, {number % 7919 + 10}.250, "{labels}"\n')
    found = subprocess.run(
        [sys.executable, "-c", READ, str(table)],
        capture_output=True,
        text=True,
        env=os.environ,
        check=True,
        timeout=280,
    )
    clips, peak = map(int, found.stdout.split())
    assert clips == 1500 * classes
    assert peak < 2 * GB
