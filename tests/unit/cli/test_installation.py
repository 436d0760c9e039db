"""Which programs a service can run, and how a unit is recognised."""

import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from daemon.cli.installation import (
    HIDDEN,
    UNITS,
    Target,
    is_as_written,
    require_usable,
    shipped,
    unit_text,
    with_header,
)
from daemon.errors import ConfigurationError

SHELL = Path("/bin/sh")


def faults(target: Target, *files: Path) -> tuple[str, ...]:
    with pytest.raises(ConfigurationError) as caught:
        require_usable(target, files)
    return caught.value.faults


def test_a_program_that_everybody_may_run_is_usable() -> None:
    require_usable(Target(Path("/"), SHELL), (SHELL,))


@pytest.mark.parametrize("folder", HIDDEN, ids=str)
def test_a_program_in_a_folder_that_units_hide_is_refused(folder: Path) -> None:
    """ProtectHome and PrivateTmp: the service would end with 203/EXEC."""
    file = folder / "me/.venv/bin/callstatsd"
    (fault,) = faults(Target(Path("/"), SHELL), file, file)
    assert fault.startswith(f"The service cannot see {file}, because its unit hides {folder}: ")


def test_hidden_folders_are_those_of_the_units() -> None:
    for name in UNITS:
        text = shipped(name).read_text(encoding="utf-8")
        assert "ProtectHome=yes\n" in text
        assert "PrivateTmp=yes\n" in text


@pytest.mark.parametrize(
    ("closed", "advice"),
    [
        ("env/bin", "chmod -R a+rX {home}/env"),
        ("env/bin/callstatsd", "chmod -R a+rX {home}/env"),
        ("", "chmod a+rx {home}"),
    ],
    ids=["folder", "file", "not ours"],
)
def test_what_root_installed_for_itself_is_refused(closed: str, advice: str) -> None:
    """A umask of 077 while pip ran: the service runs as a user of its own."""
    with tempfile.TemporaryDirectory() as home:
        file = Path(home, "env/bin/callstatsd")
        file.parent.mkdir(parents=True)
        file.touch()
        for path in (Path(home), *file.parents[:2], file):
            path.chmod(0o755)
        target = Target(Path("/"), file)
        require_usable(target, (file,), hidden=())
        Path(home, closed).chmod(0o750)
        with pytest.raises(ConfigurationError) as caught:
            require_usable(target, (file,), hidden=())
        assert f"may not read {Path(home, closed)}: " in str(caught.value)
        assert str(caught.value).endswith(f"use sudo {advice.format(home=home)}.")


def test_a_program_that_is_not_there_is_refused(tmp_path: Path) -> None:
    program = tmp_path / "callstatsd"
    assert faults(Target(Path("/"), program)) == (
        f"{program} does not exist: install callstatsd with pip first.",
    )


@pytest.mark.parametrize("folder", ["/opt/call statsd", "/opt/%i", "/opt/$HOME", "/opt/a'b"])
def test_a_path_that_a_unit_would_read_as_something_else_is_refused(folder: str) -> None:
    with pytest.raises(ConfigurationError, match="cannot be named in a unit"):
        unit_text(UNITS[0], Path(folder, "bin/callstatsd"))


@pytest.mark.parametrize("name", UNITS)
def test_a_unit_names_its_program_and_no_other(name: str) -> None:
    text = unit_text(name, Path("/srv/call-statsd_1.0/bin/callstatsd"))
    assert "/srv/call-statsd_1.0/bin/callstatsd" in text
    assert "/opt/" not in text


@pytest.mark.parametrize(
    ("change", "ours"),
    [
        (lambda text: text, True),
        (lambda text: text + "\n", False),
        (lambda text: text.replace("RestartSec=5", "RestartSec=6"), False),
        (lambda text: text.partition("\n")[2], False),
        (lambda text: "\n" + text, False),
        (lambda text: with_header("[Service]\n"), True),
        (lambda text: "", False),
    ],
    ids=["as written", "longer", "edited", "no header", "not first", "another version", "empty"],
)
def test_a_unit_is_ours_only_as_it_was_written(change: Callable[[str], str], ours: bool) -> None:
    assert is_as_written(change(with_header(unit_text(UNITS[0], SHELL)))) is ours
