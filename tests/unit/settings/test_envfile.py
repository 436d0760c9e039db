"""Files of settings are read as systemd reads an EnvironmentFile: by its rules, and by itself."""

import ctypes
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from daemon.settings.envfile import faulty_lines, read

LIBRARIES = sorted(Path("/usr/lib").glob("*/systemd/libsystemd-shared-*.so"))


def values(text: str) -> dict[str, str]:
    return {found.name: found.value for found in read(text)[0]}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", {}),
        ("A=1", {"A": "1"}),
        ("A=1\nB=2\n", {"A": "1", "B": "2"}),
        ("A=1\r\nB=2\r\n", {"A": "1", "B": "2"}),
        ("A=", {"A": ""}),
        ("A=\nB=2", {"A": "", "B": "2"}),
        (" A = 1 2 \t\n", {"A": "1 2"}),
        ("A=1\nA=2\n", {"A": "2"}),
        ("# A=1\n; B=2\n  # C=3\nD=4", {"D": "4"}),
        ("A=1 # no comment", {"A": "1 # no comment"}),
        ("A=#1", {"A": "#1"}),
        ("A=$HOME ${HOME} `id` $(id)", {"A": "$HOME ${HOME} `id` $(id)"}),
        ("A=a=b", {"A": "a=b"}),
        # Quotes count at the beginning of a value only, and join.
        ("A='a b '", {"A": "a b "}),
        ("A=' a'\" b\"", {"A": " a b"}),
        ("A='a' 'b'", {"A": "ab"}),
        ("A='a' b c ", {"A": "ab c"}),
        ("A=it's", {"A": "it's"}),
        ('A=a"b"', {"A": 'a"b"'}),
        ("A='a\nb'\nB=2", {"A": "a\nb", "B": "2"}),
        ("A='a\\'\nB=2", {"A": "a\\", "B": "2"}),
        ("A='a", {"A": "a"}),
        # Backslashes: between double quotes only before \" \\ $ ` and the end of a line.
        (r'A="a\"b\\c\$d\`e\nf"', {"A": 'a"b\\c$d`e\\nf'}),
        ('A="a\\\nb"', {"A": "ab"}),
        (r"A=a\b\\c\ d", {"A": "ab\\c d"}),
        ("A=a\\ ", {"A": "a "}),
        ("A=a\\\nb\nB=2", {"A": "ab", "B": "2"}),
        ("A=a\\", {"A": "a"}),
        ('A="a\\', {"A": "a"}),
        # What is not an assignment is skipped, and reported beside.
        ("A\nB=2", {"B": "2"}),
        ("export A=1", {"export A": "1"}),
        ("# a\\\nA=1\nB=2", {"B": "2"}),
    ],
)
def test_values_are_those_of_the_rules(text: str, expected: dict[str, str]) -> None:
    assert values(text) == expected


def test_lines_are_counted_from_where_an_assignment_begins() -> None:
    text = "# a\n\nA=1\nB='2\n3'\n\nnothing\n  C=4\n"
    assignments, others = read(text)
    assert [(found.name, found.line) for found in assignments] == [("A", 3), ("B", 4), ("C", 8)]
    assert others == [7]


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("CALLSTATSD_A=1\n", []),
        ("CALLSTATSD_A=a&b;c$d(e)|f*g!h\n", []),
        ("CALLSTATSD_A='a # $b'\r\n\r\n", []),
        ('CALLSTATSD_A="a\\\\b\'"\n', []),
        ("# CALLSTATSD_A=1\n;CALLSTATSD_B=2\n; words\n", []),
        ("OTHER=1 # two\nCALLSTATSD_A=1", []),
        ("CALLSTATSD_A=1 # two", [1]),
        ("\n\nCALLSTATSD_A=1\nCALLSTATSD_B=a\\b", [4]),
        ("OTHER='1\nCALLSTATSD_A=1\n", [2]),
        ("# continued\\\nCALLSTATSD_A=1\n", [2]),
        ("\ufeffCALLSTATSD_A=1\n", [1]),
        ("export CALLSTATSD_A=1\nCALLSTATSD_B\n", [1, 2]),
        ("CALLSTATSD_A=a\u00a0# b\n", [1]),
        ("CALLSTATSD_A=a\x1b\n", [1]),
    ],
)
def test_a_line_that_a_reader_of_dotenv_understands_otherwise_is_named(
    text: str, lines: list[int]
) -> None:
    assert list(faulty_lines(text, "CALLSTATSD_")) == lines


@pytest.mark.skipif(not LIBRARIES, reason="systemd is not on this machine")
@settings(deadline=None)
@given(text=st.text("AB=='\"\\ \t\n#;$x", max_size=30))
def test_systemd_itself_reads_the_same(text: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    file = tmp_path_factory.getbasetemp() / "any.env"
    file.write_bytes(text.encode())
    expected = _by_systemd(file)
    found: dict[str, str] = {}
    for assignment in read(text)[0]:
        found[assignment.name.partition("=")[0]] = f"{assignment.name}={assignment.value}"
    # Names with `=` in front are nobody's, and replace each other in their own way.
    assert {line for line in found.values() if line[0] != "="} == {
        line for line in expected if line[0] != "="
    }


def _by_systemd(file: Path) -> list[str]:
    library = ctypes.CDLL(str(LIBRARIES[-1]))
    result = ctypes.POINTER(ctypes.c_char_p)()
    code = library.load_env_file(None, str(file).encode(), ctypes.byref(result))
    assert code >= 0
    lines: list[str] = []
    while result and (line := result[len(lines)]) is not None:
        lines.append(line.decode())
    return lines
