"""The reference endpoint in Apex: it parses, and means what the daemon understands."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

import pytest

import daemon.salesforce
from daemon.delivery.outcome import Locked, classify
from daemon.demo.record_check import FIELDS, record_faults
from daemon.salesforce.responses import Response

if TYPE_CHECKING:
    from tree_sitter import Node

FOLDER = Path(daemon.salesforce.__file__).parent / "apex"
CLASSES = ("CallStatistics", "CallStatisticsTest")
METADATA = "{http://soap.sforce.com/2006/04/metadata}"

# What RestResponse.statusCode may be.
ALLOWED = {
    200, 201, 202, 204, 206, 300, 301, 302, 304, 400, 401, 403, 404, 405, 406, 409, 410, 412, 413,
    414, 415, 417, 500, 503,
}  # fmt: skip
# Words that no variable, method or parameter may be called.
RESERVED = set(
    re.findall(
        r"\w+",
        """abstract activate and any array as asc autonomous begin bigdecimal blob boolean break
        bulk by byte case cast catch char class collect commit const continue currency date
        datetime decimal default delete desc do double else end enum exception exit export
        extends false final finally float for from future global goto group having hint if
        implements import in inner insert instanceof int integer interface into join like limit
        list long loop map merge new not null nulls number object of on or outer override
        package parallel pragma private protected public retrieve return rollback select set
        short sobject sort static string super switch synchronized system testmethod then this
        throw time transaction trigger true try undelete update upsert using virtual webservice
        when where while""",
    )
)


def parsed(name: str) -> "Node":
    pack = pytest.importorskip(
        "tree_sitter_language_pack", reason="the Apex grammar is not installed: pip install .[dev]"
    )
    return pack.get_parser("apex").parse((FOLDER / f"{name}.cls").read_bytes()).root_node  # type: ignore[no-any-return]


def nodes(root: "Node", *kinds: str) -> "Iterator[Node]":
    """All nodes of these kinds, in the order of the text."""
    if root.type in kinds:
        yield root
    for child in root.children:
        yield from nodes(child, *kinds)


def text(node: "Node | None") -> str:
    assert node is not None
    assert node.text is not None
    return node.text.decode()


def calls_of(root: "Node", *methods: str) -> "Iterator[list[str]]":
    """The arguments of each call of these methods."""
    for call in nodes(root, "method_invocation"):
        if text(call.child_by_field_name("name")) in methods:
            arguments = call.child_by_field_name("arguments")
            assert arguments is not None
            yield [text(argument) for argument in arguments.named_children]


@pytest.mark.parametrize("name", CLASSES)
def test_the_class_parses(name: str) -> None:
    root = parsed(name)

    wrong = [f"line {node.start_point[0] + 1}: {text(node)[:60]}" for node in nodes(root, "ERROR")]
    assert wrong == []
    assert not root.has_error
    [first, *_] = nodes(root, "class_declaration")
    assert text(first.child_by_field_name("name")) == name


@pytest.mark.parametrize("name", CLASSES)
def test_nothing_is_called_by_a_reserved_word(name: str) -> None:
    names = {
        text(node.child_by_field_name("name")).lower()
        for node in nodes(
            parsed(name), "variable_declarator", "formal_parameter", "method_declaration"
        )
    }
    assert len(names) > 20
    assert names & RESERVED == set()


@pytest.mark.parametrize("name", CLASSES)
def test_the_class_comes_with_its_metadata(name: str) -> None:
    root = ET.parse(FOLDER / f"{name}.cls-meta.xml").getroot()
    assert root.tag == f"{METADATA}ApexClass"
    assert float(root.findtext(f"{METADATA}apiVersion", "")) >= 50
    assert root.findtext(f"{METADATA}status") == "Active"


def test_the_field_of_the_key_holds_the_longest_key() -> None:
    root = ET.parse(FOLDER / "CallstatsdKey__c.field-meta.xml").getroot()
    longest = "-".join([str(2**63 - 1)] * 4)
    assert root.findtext(f"{METADATA}fullName") == "CallstatsdKey__c"
    assert len(longest) <= int(root.findtext(f"{METADATA}length", "")) == 80
    assert "'x'.repeat(81)" in (FOLDER / "CallStatisticsTest.cls").read_text(encoding="utf-8")


def test_the_class_reads_the_seventeen_keys_in_their_order() -> None:
    [line] = [
        node
        for node in nodes(parsed("CallStatistics"), "constructor_declaration")
        if text(node.child_by_field_name("name")) == "Line"
    ]
    keys = [arguments[1].strip("'") for arguments in calls_of(line, "text", "whole")]
    assert len(keys) == 17
    assert keys == list(FIELDS)


def test_the_class_answers_only_what_apex_may() -> None:
    answers = [arguments[:2] for arguments in calls_of(parsed("CallStatistics"), "answer")]
    statuses = [int(status) for status, _ in answers]
    assert sorted(statuses) == [200, 400, 404, 409, 503]
    assert set(statuses) <= ALLOWED
    assert ["503", "LOCKED"] in answers


def test_the_class_tells_a_locked_record_so_that_only_its_lines_wait() -> None:
    source = (FOLDER / "CallStatistics.cls").read_text(encoding="utf-8")
    assert "LOCKED = 'UNABLE_TO_LOCK_ROW';" in source
    assert "addHeader('Retry-After', RETRY_AFTER_SECONDS)" in source
    body = '{"message":"Record Currently Unavailable","code":"UNABLE_TO_LOCK_ROW"}'
    assert isinstance(classify(Response(503, body, retry_after=5.0)), Locked)


def test_the_record_of_its_test_is_one_that_the_daemon_could_send() -> None:
    [build, *_] = [
        node
        for node in nodes(parsed("CallStatisticsTest"), "variable_declarator")
        if text(node.child_by_field_name("name")) == "body"
    ]
    parts = [text(node) for node in nodes(build, "string_literal", "identifier")]
    assert parts[0] == "body"
    told = ("0059E000002GhnoQAC" if part == "salesForceID" else part[1:-1] for part in parts[1:])
    record = json.loads("".join(told))
    assert record_faults(record, "1201-2202-3203-4201", None, without_id=False) == []
