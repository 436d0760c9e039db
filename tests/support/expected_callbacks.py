"""Callback requests and their records, computed a second time from their contract's words alone.

Nothing of `daemon.ingest` is used: rows in, sections 3 to 5 by hand, a line out.
"""

import html
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from io import StringIO
from typing import Any
from xml import sax
from xml.sax.handler import ContentHandler, LexicalHandler, property_lexical_handler
from zoneinfo import ZoneInfo

from daemon.demo.rows import Call, Event, Sample, ServiceNumber
from tests.support.expected import BERLIN, Line, caller_id, local, salesforce_id

WAITS_FOR_END = timedelta(minutes=30)
MEBIBYTE = 1024 * 1024
INFINITY = datetime.max.replace(tzinfo=UTC)
"""How a row has Postgres' infinity."""

MARKUP = re.compile(
    r"""<!\[CDATA\[(?P<cdata>.*?)\]\]>
    | <!--.*?-->
    | <\?.*?\?>
    | (?P<tag><(?P<close>/?)(?P<name>[^\s/>]+)(?:"[^"]*"|'[^']*'|[^"'/>])*(?P<alone>/?)>)
    | (?P<text>[^<]+)""",
    re.DOTALL | re.VERBOSE,
)


@dataclass(frozen=True, slots=True)
class CallbackDay(Sample):
    """The rows of a day, and two columns of master rows that only callbacks show, by row id."""

    nick_names: dict[int, str | None] = field(default_factory=dict)
    foreign_ids: dict[int, str | None] = field(default_factory=dict)

    def call_of(self, event: Event) -> Call | None:
        """Return the call that the event names, if its row exists."""
        return next((call for call in self.calls if call.id == event.statisticspartaid), None)


def is_taken(
    day: CallbackDay, event: Event, now: datetime, floor: datetime, clients_id: int | None
) -> bool:
    """Return whether an event is a line by `now` (section 4); the delay is 0."""
    call = day.call_of(event)
    client = event.clientsid
    if client is None and call:
        client = call.clientsid
    running = call is not None and call.dtcallend is None
    return (
        event.acdeventtypesid == 3
        and not (event.userdata or "").startswith("callstatsd-alert-")
        and clients_id in (None, client)
        and floor <= event.dtcreated <= now - (WAITS_FOR_END if running else timedelta(0))
    )


def broken_column(day: CallbackDay, event: Event) -> str | None:
    """Return the column for which the request cannot become a record."""
    call = day.call_of(event)
    return "StatisticsPartA.dtCallEnd" if call and call.dtcallend == INFINITY else None


def callback_line(day: CallbackDay, event: Event, zone: ZoneInfo = BERLIN) -> Line:
    """Return the key and the record of a request that is taken."""
    return Line(f"callback-{event.id}", callback_record(day, event, zone))


def callback_record(day: CallbackDay, event: Event, zone: ZoneInfo) -> dict[str, Any]:
    """Fill the 21 keys of section 5, in order."""
    call = day.call_of(event)
    other_party = (call.bnumber if call.boutbound else call.anumber) if call else None
    services = {row.id: row for row in day.service_numbers}
    service = services.get(call.servicenumbersid or 0) if call else None
    named = service_called(day, event.receiver)
    group = first_known(event.acdgroupsid, event.acdconfigurationgroupsid, event.acdagentgroupsid)
    users = dict(day.users)
    creator, target = event.creatingusersid, event.usersid
    record_id = salesforce_id(event.userdata) or salesforce_id(call.userdata if call else None)
    found = event.salesforcequeryresult
    return {
        "Caller": caller_id(other_party or event.sender),
        "CallbackNumber": caller_id(event.sender),
        "ServiceNumbersNumber": caller_id((service.name if service else None) or event.receiver),
        "ServiceNumbersName": (
            (service.name2 if service else None) or (named.name2 if named else None) or None
        ),
        "AcdGroupsID": group,
        "AcdGroupsName": dict(day.groups).get(group or 0) or None,
        "AcdGroupsForeignSystemID": day.foreign_ids.get(group or 0) or None,
        "dtCallStart": local(call.dtcallstart, zone) if call else None,
        "dtCallEnd": local(call.dtcallend, zone) if call else None,
        "ID": event.id,
        "AcdEventsID": event.id,
        "Subject": event.subject or None,
        "Body": body(event.eventdata),
        "CreatingUsersID": creator,
        "CreatingUsersUID": users.get(creator or 0) or None,
        "CreatingUsersNickName": day.nick_names.get(creator or 0) or None,
        "TargetUsersID": target,
        "TargetUsersUID": users.get(target or 0) or None,
        "TargetUsersNickName": day.nick_names.get(target or 0) or None,
        "SalesforceId": record_id,
        "SalesforceQueryResult": found if found in (0, 1, 2) else int(record_id is not None),
    }


def first_known(*ids: int | None) -> int | None:
    """Return the first id that is not NULL."""
    return next((one for one in ids if one is not None), None)


def service_called(day: CallbackDay, receiver: str | None) -> ServiceNumber | None:
    """Return the service number with the lowest id that is the receiver by the number rule."""
    called = caller_id(receiver)
    rows = [row for row in day.service_numbers if called and caller_id(row.name) == called]
    return min(rows, default=None)


def body(event_data: str | None) -> str | None:
    """Return plain text as it is, or what is in the first element `body` of an XML document."""
    if not event_data or len(event_data.encode()) > MEBIBYTE:
        return None
    if not event_data.startswith("<"):
        return event_data
    if not is_plain_xml(event_data):
        return None
    return content_of_body(re.sub("\r\n?", "\n", event_data)) or None


class NoDoctype(LexicalHandler):
    """Refuses a document type before anything in it is read."""

    def startDTD(self, name: str, *_: object) -> None:  # noqa: N802 - SAX spells it so
        raise sax.SAXException(f"the document has a type: {name}")


def is_plain_xml(text: str) -> bool:
    """Return whether a text is a well-formed document without a DOCTYPE."""
    reader = sax.make_parser()
    reader.setContentHandler(ContentHandler())
    reader.setProperty(property_lexical_handler, NoDoctype())
    try:
        reader.parse(StringIO(text))
    except sax.SAXException:
        return False
    return True


def content_of_body(document: str) -> str:
    """Return the body of a well-formed document: child elements as written, entities resolved.

    Only in the text of children the three characters of markup stay escaped.
    """
    parts = MARKUP.finditer(document)
    start = next((part for part in parts if part["name"] == "body" and not part["close"]), None)
    depth = 0 if start is None or start["alone"] else 1
    found: list[str] = []
    while depth:
        part = next(parts)
        if part["tag"]:
            depth += 0 if part["alone"] else -1 if part["close"] else 1
            found.append(part["tag"] if depth else "")
        else:
            said = html.unescape(part["text"] or "") + (part["cdata"] or "")
            found.append(said if depth == 1 else html.escape(said, quote=False))
    return "".join(found)
