"""Wheel and sdist, built from here and installed where nothing of the checkout is."""

import os
import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

from daemon import __version__
from daemon.cli.installation import UNITS, shipped, with_header

PROJECT = Path(__file__).parents[2]


def done(*command: str | Path, folder: Path, **environment: str) -> str:
    """Run a command that must succeed, with no settings but these; returns what it printed."""
    own = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("CALLSTATSD_", "PYTHON", "VIRTUAL_ENV"))
    }
    ended = subprocess.run(
        command, cwd=folder, env=own | environment, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


@pytest.fixture(scope="module")
def artefacts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The sdist, and the wheel that is built from it."""
    folder = tmp_path_factory.mktemp("artefacts")
    reached = subprocess.run(
        [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "hatchling"],
        cwd=tmp_path_factory.mktemp("index"),
        capture_output=True,
        check=False,
    )
    if reached.returncode:
        pytest.skip("pip reaches no package index from here")
    done(sys.executable, "-m", "build", "--outdir", folder, PROJECT, folder=folder)
    (wheel,), (sdist,) = folder.glob("*.whl"), folder.glob("*.tar.gz")
    return {"wheel": wheel, "sdist": sdist}


@pytest.mark.parametrize("kind", ["wheel", "sdist"])
def test_an_installed_package_works_away_from_the_checkout(
    artefacts: dict[str, Path], kind: str, tmp_path: Path, empty_dsn: str
) -> None:
    root, folder = tmp_path / "root", tmp_path / "elsewhere"
    home = root / "opt" / "callstatsd"
    folder.mkdir()
    venv.create(home, with_pip=True, symlinks=True)
    done(home / "bin" / "pip", "install", "--quiet", f"{artefacts[kind]}[demo]", folder=folder)
    callstatsd = home / "bin" / "callstatsd"

    assert done(callstatsd, "--version", folder=folder) == f"callstatsd {__version__}\n"
    told = done(
        *(callstatsd, "migrate", "--reference-schema"),
        folder=folder,
        CALLSTATSD_SOURCE_DSN=empty_dsn,
    )
    assert "Created the ledger in schema callstatsd" in told
    shown = done(callstatsd, "demo", "--calls", "20", folder=folder)
    assert "nothing is left behind" in shown
    assert "Next steps:" in done(callstatsd, "systemd", "install", "--root", root, folder=folder)
    for name in UNITS:
        written = (root / "etc/systemd/system" / name).read_text(encoding="utf-8")
        assert written == with_header(shipped(name).read_text(encoding="utf-8"))
    assert str(PROJECT) not in done(
        *(home / "bin" / "python", "-c", "import daemon.demo; print(daemon.demo.__path__)"),
        folder=folder,
    )


def test_the_wheel_holds_the_program_and_all_it_reads(artefacts: dict[str, Path]) -> None:
    with zipfile.ZipFile(artefacts["wheel"]) as wheel:
        names = set(wheel.namelist())
    read = [
        *PROJECT.glob("daemon/**/*.sql"),
        *PROJECT.glob("daemon/**/*.po"),
        *(file for file in PROJECT.glob("daemon/salesforce/apex/*") if file.is_file()),
        *PROJECT.glob("daemon/**/*.py"),
    ]
    assert {str(file.relative_to(PROJECT)) for file in read} <= names
    migrations = [*PROJECT.glob("migrations/**/*.py"), *PROJECT.glob("migrations/*.sql")]
    assert {
        f"daemon/_migrations/{file.relative_to(PROJECT / 'migrations')}" for file in migrations
    } <= names
    tops = {name.split("/")[0] for name in names}
    own = f"callstatsd-{__version__}"
    assert tops == {"daemon", f"{own}.dist-info", f"{own}.data"}
    assert {name.rpartition("/")[2] for name in names if name.startswith(f"{own}.data/")} == {
        *UNITS,
        *("env.example", "alerts.yml", "dashboard.json"),
    }


def test_the_sdist_holds_what_its_tests_need(artefacts: dict[str, Path], tmp_path: Path) -> None:
    with tarfile.open(artefacts["sdist"]) as sdist:
        sdist.extractall(tmp_path, filter="data")
    (folder,) = tmp_path.iterdir()
    tracked = subprocess.run(
        ["git", "ls-files"], cwd=PROJECT, capture_output=True, text=True, check=False
    ).stdout.splitlines()
    missing = [name for name in tracked if not (folder / name).is_file()]
    assert missing == []
    # Tests of files beside the code, run where only the sdist is.
    files = ("test_docs.py", "test_systemd.py", "test_alerts.py")
    done(
        *(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"),
        *(f"tests/project/{name}" for name in files),
        folder=folder,
    )
