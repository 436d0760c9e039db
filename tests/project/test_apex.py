"""The endpoints in Apex: they parse, and mean what the daemon understands."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree as ET

import pytest

import daemon.salesforce
from daemon.delivery.outcome import (
    Conflict,
    Failed,
    Locked,
    NotFound,
    PauseSender,
    Rejected,
    classify,
    error_code,
)
from daemon.demo import callback_check, dial_check, record_check
from daemon.salesforce import click_to_dial
from daemon.salesforce.responses import Response

if TYPE_CHECKING:
    from tree_sitter import Node

FOLDER = Path(daemon.salesforce.__file__).parent / "apex"
CLASSES = ("CallStatistics", "CallstatsdRest", "CreateCallback", "OnClickToDial")
TESTS = tuple(f"{name}Test" for name in CLASSES)
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


@pytest.mark.parametrize("name", [*CLASSES, *TESTS])
def test_the_class_parses(name: str) -> None:
    root = parsed(name)

    wrong = [f"line {node.start_point[0] + 1}: {text(node)[:60]}" for node in nodes(root, "ERROR")]
    assert wrong == []
    assert not root.has_error
    [first, *_] = nodes(root, "class_declaration")
    assert text(first.child_by_field_name("name")) == name


@pytest.mark.parametrize("name", [*CLASSES, *TESTS])
def test_nothing_is_called_by_a_reserved_word(name: str) -> None:
    names = {
        text(node.child_by_field_name("name")).lower()
        for node in nodes(
            parsed(name), "variable_declarator", "formal_parameter", "method_declaration"
        )
    }
    assert len(names) > 10
    assert names & RESERVED == set()


@pytest.mark.parametrize("name", [*CLASSES, *TESTS])
def test_the_class_comes_with_its_metadata(name: str) -> None:
    root = ET.parse(FOLDER / f"{name}.cls-meta.xml").getroot()
    assert root.tag == f"{METADATA}ApexClass"
    assert float(root.findtext(f"{METADATA}apiVersion", "")) >= 50
    assert root.findtext(f"{METADATA}status") == "Active"


def test_the_folder_holds_these_classes_and_no_others() -> None:
    assert {path.stem for path in FOLDER.glob("*.cls")} == {*CLASSES, *TESTS}


@pytest.mark.parametrize("name", CLASSES)
def test_every_class_keeps_the_sharing_rules(name: str) -> None:
    source = (FOLDER / f"{name}.cls").read_text(encoding="utf-8")
    assert f"with sharing class {name} {{" in source


def test_the_field_of_a_lines_key_holds_the_longest_key() -> None:
    root = ET.parse(FOLDER / "CallstatsdKey__c.field-meta.xml").getroot()
    longest = "-".join([str(2**63 - 1)] * 4)
    assert root.findtext(f"{METADATA}fullName") == "CallstatsdKey__c"
    assert len(longest) <= int(root.findtext(f"{METADATA}length", "")) == 80
    assert "'x'.repeat(81)" in (FOLDER / "CallStatisticsTest.cls").read_text(encoding="utf-8")


def test_the_field_of_an_events_id_holds_the_longest_and_is_unique() -> None:
    root = ET.parse(FOLDER / "CallbackKey__c.field-meta.xml").getroot()
    assert root.findtext(f"{METADATA}fullName") == "CallbackKey__c"
    assert len(str(-(2**63))) <= int(root.findtext(f"{METADATA}length", ""))
    assert root.findtext(f"{METADATA}unique") == "true"
    assert root.findtext(f"{METADATA}externalId") == "true"


def keys_read(name: str, record: str) -> list[str]:
    """The keys that the constructor of a class's record reads, in its order."""
    [constructor] = [
        node
        for node in nodes(parsed(name), "constructor_declaration")
        if text(node.child_by_field_name("name")) == record
    ]
    return [arguments[0].strip("'") for arguments in calls_of(constructor, "text", "whole")]


def test_the_class_of_lines_reads_the_seventeen_keys_in_their_order() -> None:
    keys = keys_read("CallStatistics", "Line")
    assert len(keys) == 17
    assert keys == list(record_check.FIELDS)


def test_the_class_of_callbacks_reads_all_keys_but_ids_of_the_acd_in_their_order() -> None:
    ids = {"ID", "AcdGroupsID", "CreatingUsersID", "TargetUsersID"}
    keys = keys_read("CreateCallback", "Callback")
    assert keys == [key for key in callback_check.FIELDS if key not in ids]


def test_the_classes_answer_only_what_apex_may() -> None:
    answers = [
        arguments[:2]
        for name in CLASSES
        for arguments in calls_of(parsed(name), "answer", "refuse")
        if arguments[0].isdecimal()
    ]
    statuses = {int(status) for status, _ in answers}
    assert statuses == {200, 400, 403, 404, 409, 500, 503}
    assert statuses <= ALLOWED
    assert ["503", "LOCKED"] in answers


def test_the_class_of_click_to_dial_reads_its_three_parameters_and_only_answers_get() -> None:
    root = parsed("OnClickToDial")
    names = [arguments[0].strip("'") for arguments in calls_of(root, "parameter")]
    assert names == list(dial_check.PARAMETERS)
    source = (FOLDER / "OnClickToDial.cls").read_text(encoding="utf-8")
    assert "@RestResource(urlMapping='/jtelACD/onClickToDial')" in source
    assert "@HttpGet" in source
    assert not re.search(r"@Http(Post|Put|Patch|Delete)|\b(insert|update|upsert|delete) ", source)


@pytest.mark.parametrize(
    ("status", "code"), [(400, "BAD_PARAMETER"), (403, "NOT_ALLOWED"), (404, "NO_SUCH_RECORD")]
)
def test_each_refusal_of_a_call_is_understood_with_its_words(status: int, code: str) -> None:
    refusals = [call for name in CLASSES for call in calls_of(parsed(name), "refuse")]
    assert [str(status), f"'{code}'", "e"] in refusals
    body = json.dumps({"message": "so", "code": code})
    assert click_to_dial.classify(Response(status, body)) == click_to_dial.Refused(status, "so")


def test_a_locked_record_is_told_so_that_only_its_lines_wait() -> None:
    source = (FOLDER / "CallstatsdRest.cls").read_text(encoding="utf-8")
    assert "LOCKED = 'UNABLE_TO_LOCK_ROW';" in source
    assert "addHeader('Retry-After', RETRY_AFTER_SECONDS)" in source
    body = '{"message":"Record Currently Unavailable","code":"UNABLE_TO_LOCK_ROW"}'
    assert isinstance(classify(Response(503, body, retry_after=5.0)), Locked)


@pytest.mark.parametrize(
    ("code", "status", "outcome"),
    [
        ("INVALID_RECORD", 400, Rejected),
        ("NO_ACCESS", 403, PauseSender),
        ("NO_SUCH_RECORD", 404, NotFound),
        ("CONFLICT", 409, Conflict),
        ("INTERNAL_ERROR", 500, Failed),
    ],
)
def test_each_refusal_is_understood_and_its_code_is_logged(
    code: str, status: int, outcome: type
) -> None:
    refusals = [call for name in CLASSES for call in calls_of(parsed(name), "refuse")]
    assert [str(status), f"'{code}'", "e"] in refusals
    body = json.dumps({"message": "so", "code": code})
    assert isinstance(classify(Response(status, body, retry_after=None)), outcome)
    assert error_code(body) == code


def example(name: str) -> dict[str, Any]:
    """The record that a test class sends."""
    [build, *_] = [
        node
        for node in nodes(parsed(name), "variable_declarator")
        if text(node.child_by_field_name("name")) == "body"
    ]
    parts = [text(node) for node in nodes(build, "string_literal", "identifier")]
    assert parts[0] == "body"
    written = ("0059E000002GhnoQAC" if part[0] != "'" else part[1:-1] for part in parts[1:])
    record: dict[str, Any] = json.loads("".join(written))
    return record


def test_the_records_of_the_tests_are_ones_that_the_daemon_could_send() -> None:
    line, callback = example("CallStatisticsTest"), example("CreateCallbackTest")
    assert record_check.record_faults(line, "1201-2202-3203-4201", None, without_id=False) == []
    assert callback_check.record_faults(callback, "callback-73001", None) == []
