"""The demo's callback requests: eight of them, with a call of the day and without one."""

from datetime import datetime, timedelta
from typing import Any

from daemon.demo.record_ids import expected_outcome, ids, is_id
from daemon.demo.rows import SERVICE_NUMBERS, Call, Event, Sample

CALLBACK = 3
"""AcdEventTypesID of callback requests."""
FIRST = 73001
REQUESTS = 8
REJECTED_CALLBACK = FIRST + REQUESTS - 1
"""The request that the stand-in answers 400."""

GROUP, CONFIGURATION = 2, 7
AGENT, COLLEAGUE = 3, 4
XML = (
    "<eventData><urls><url><urlPath>https://www.example.com/4711</urlPath>"
    "<displayName>4711</displayName></url></urls>"
    '<body html="true">Bestellung <b>4711</b> &amp; Rechnung</body></eventData>'
)


def callback_requests(sample: Sample, end: datetime) -> list[Event]:
    """Return the requests of a day that ends at `end` (aware), all of them ready then."""
    requests = (*requests_of_callers(sample), *requests_without_a_call(end))
    return [each._replace(id=FIRST + place) for place, each in enumerate(requests)]


def requests_of_callers(sample: Sample) -> tuple[Event, ...]:
    """Return requests that callers made at the end of a call."""
    calls = [call for call in sample.calls if is_accepted(call)]
    # The vendor's example, and others where there are any.
    example, second, third, fourth = (calls[place * len(calls) // 4] for place in range(4))
    return (
        during(
            example,
            acdgroupsid=GROUP,
            sender="+49 (0) 30 23125 018",
            subject="Rückruf erbeten",
            eventdata="Bitte am Nachmittag.",
        ),
        during(
            second,
            acdgroupsid=GROUP,
            sender="00494066969201",
            subject="Anderer Vertrag",
            userdata=ids(8001)[1],
        ),
        during(
            third,
            acdgroupsid=GROUP,
            sender="sip:+498999998301@10.20.30.40;user=phone",
            subject="Bestellung 4711",
            eventdata=XML,
        ),
        during(
            fourth,
            acdconfigurationgroupsid=CONFIGURATION,
            sender="+496990009401",
            subject="Mehrere Kunden mit dieser Nummer",
            salesforcequeryresult=2,
        ),
    )


def requests_without_a_call(end: datetime) -> tuple[Event, ...]:
    """Return requests of the minutes before `end` that belong to no call."""

    def alone(minutes: int, **columns: Any) -> Event:
        at = end - timedelta(minutes=minutes)
        at = at.replace(microsecond=at.microsecond // 1000 * 1000)
        return request(dtcreated=at, **{"receiver": SERVICE_NUMBERS[0].name} | columns)

    return (
        alone(
            18,
            usersid=COLLEAGUE,
            creatingusersid=AGENT,
            sender="491713920001",
            subject="Für die Kollegin",
            eventdata="Es geht um das Angebot von gestern.",
            userdata=ids(8002)[0],
        ),
        alone(15, acdgroupsid=GROUP, sender="493023125019", subject="Unbekannter Anrufer"),
        alone(
            12,
            acdgroupsid=GROUP,
            sender="anonymous",
            receiver=SERVICE_NUMBERS[2].name,
            subject="Nummer unterdrückt",
            eventdata="Die Nummer ist beim Kunden hinterlegt.",
            userdata=ids(8003)[0],
        ),
        alone(
            9,
            acdgroupsid=GROUP,
            sender="493023125020",
            subject="Salesforce lehnt diesen Datensatz ab",
            userdata=ids(8004, "400")[0],
        ),
    )


def is_accepted(call: Call) -> bool:
    """Return whether a caller's call has ended, and the stand-in accepts its record."""
    record = (call.userdata or "").strip()
    ended = call.dtcallend is not None and not call.boutbound
    return ended and is_id(record) and expected_outcome(record) == "exists"


def during(call: Call, **columns: Any) -> Event:
    """Return a request that the caller made in the last moment of a call."""
    made = {
        "receiver": call.bnumber,
        "dtcreated": call.dtcallend,
        "statisticspartaid": call.id,
    }
    return request(**made | columns)


def request(**columns: Any) -> Event:
    """Return a callback request of the demo's client; columns that are not named are NULL."""
    row: dict[str, Any] = dict.fromkeys(Event._fields)
    row |= {"acdeventtypesid": CALLBACK, "clientsid": 1} | columns
    return Event(**row)
