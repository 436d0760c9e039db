"""Callback requests of every kind beside a day of calls; the same seed gives the same requests."""

import itertools
import random
from collections.abc import Iterator
from dataclasses import fields
from datetime import UTC, datetime, timedelta
from typing import TypeVar

from daemon.demo import calls as sample_calls
from daemon.demo.record_ids import ids
from daemon.demo.rows import GROUPS, SERVICE_NUMBERS, USERS, Call, Event, Sample, ServiceNumber
from tests.support import rows
from tests.support.expected_callbacks import INFINITY, MEBIBYTE, CallbackDay

T = TypeVar("T")

EVENING = datetime(2025, 11, 20, 18, tzinfo=UTC)
"""When the day ends: long ago, so that only what runs or is to come depends on the clock."""
NIGHT = datetime(2025, 10, 26, 0, 59, 59, 999_000, tzinfo=UTC)
"""The last moment before Berlin's clocks are set back."""
FLOOR = datetime(2020, 1, 1, tzinfo=UTC) - timedelta(hours=1)
"""START_FROM of the tests' daemons."""

GONE = sample_calls.GONE
CLIENT, OTHER_CLIENT = 1, 2
RUNNING, LONG_RUNNING, OTHERS, ENDED_AT_NIGHT, OUTBOUND, OWN_RECORD, NO_NUMBERS, ENDLESS = range(
    901, 909
)
"""Ids of calls beside those of the day."""

NICK_NAMES = {1: "Wanda", 2: "Jörg 🙂", 3: "", 4: None, 5: 'the "fifth"'}
FOREIGN_IDS = {1: "SERVICE_B2B", 2: "", 3: "säle & more", 7: "7", 8: None}
NAMELESS = ((41, ""), (42, "agent.\\042"))
EMPTY_GROUPS = ((9, ""), (10, None))
MORE_SERVICES = (
    # The lowest id of a number counts, also where it has no name or another has one.
    ServiceNumber(6, "+49 (0) 30 231250-100", "Not this one"),
    ServiceNumber(7, "0049221471 0600", "Elsewhere"),
    ServiceNumber(8, "49221471\u00a00600", "Nor this one"),
    ServiceNumber(9, "+49 221 4710500", "Not the nameless one"),
    ServiceNumber(10, "hotline", "No number"),
    ServiceNumber(11, None, "No name"),
    ServiceNumber(12, "", "Nothing"),
)
SERVICES_OF_CALLS = (1, 5, 7, 10, 11, 12, GONE, None)

NUMBERS = (
    None, "", "anonymous", "sip:anonymous@anonymous.invalid", "Unbekannt (0)", "+", "00", "0",
    "493023125018", "+493023125018", "00493023125018", "000493023125018", "+49 (0) 30 23125-018",
    "sip:+493023125018@10.20.30.40;user=phone", "tel:+49-30-23125-018;ext=5", "030 23125018",
    "4930231250100", "+4930231250100", "0049(0)221/4710500", "tel:492214710600", "hotline",
    "+49 89 99998 \uff13\uff10\uff10",
)  # fmt: skip
"""Senders, receivers and numbers of calls; some are a service number in another form."""

SUBJECTS = (
    None, "", " ", "Please call back", "  Rückruf \r\n", 'say "a\\b" / <c> & \'d\'',
    "🙂\t\u2028\x7f", "\x01\x08\x0c\x1f", "x" * 3000,
)  # fmt: skip
TEXTS = (
    None, "", " ", "Please call back", "Anna & <b>Bert</b>", " <a><body>blank before</body></a>",
    "two\r\nlines", "&amp; stays", '{"body": "json"}', "\ufeff<body>mark before</body>",
)  # fmt: skip
BODIES = (
    "", " ", "Please call back", "  two\r\nlines\t",
    "a &amp; b &lt;c&gt; &quot;&apos; &#228;&#x1F642;",
    "&amp;amp; &amp;lt;", "<![CDATA[a & <b>]]>", "<![CDATA[<!DOCTYPE html>]]>", "<![CDATA[]]>",
    "a<![CDATA[]]]]><![CDATA[>]]>b", "one<br/>two", "<br/>", "<p></p>", "<p>\n</p>", "<p><br/></p>",
    "<p>a &amp; <b>b <i>&lt;c&gt;</i></b> d</p> &amp; e", "<p>&#228; <![CDATA[<b> & ]]></p>",
    '<a href="x?a&amp;b&lt;c">x</a>', '<a title="/">y</a>', "a<!-- <b> -->b<?php <c> ?>c",
    "<p>a<!-- </p> --><?d </body> ?>b</p>", "a<body>b<body/></body>c", "<x:p>a</x:p>",
    "<äöü>ß</äöü>", "]] &gt; 'x' \"y\"", "x" * 20_000, "<b>" * 300 + "deep" + "</b>" * 300,
)  # fmt: skip
"""What may be in the element `body`."""
DOCUMENTS = (
    '<eventData><urls><url/></urls><body html="true">{}</body></eventData>',
    "<body>{}</body>",
    "<a><b><body >{}</body ></b></a>\n",
    "<?xml version='1.0' encoding='ISO-8859-1'?>\n<!-- <body>no</body> --><a><body>{}</body></a>",
    "<a><!-- <body>no</body> --><![CDATA[<body>no</body>]]><body>{}</body></a>",
    "<a><body>{}</body><body>second</body></a>",
    '<a body="no"><Body>no</Body><bodyguard>no</bodyguard><body>{}</body></a>',
)
"""Documents around a body."""
WITHOUT_BODY = (
    "<", "<3 you", "<p>Hello<br>", "<a/>", "<a>text</a>", "<a><Body>x</Body></a>", "<body/>",
    "<a><body/><body>second</body></a>", '<a body="x"/>', "<a><body>x</body>",
    "<a><body>x</body></a><b/>", "<a><body>x</body></b>", "<body>&nbsp;</body>",
    "<body>a & b</body>",
    "<body>\x01</body>", "<body a=1>x</body>", '<body a="1" a="2">x</body>', "<body>x</body>text",
    "<!DOCTYPE a><a><body>x</body></a>", '<!DOCTYPE a SYSTEM "http://127.0.0.1/x"><body>x</body>',
    "<?xml version='1.0'?><!-- c --> <!DOCTYPE a [<!ENTITY x 'y'>]><a><body>&x;</body></a>",
    "<!DOCTYPE a [<!ENTITY x SYSTEM 'file:///etc/passwd'>]><a><body>&x;</body></a>",
    "<!doctype html><html><body>x</body></html>", "<body>" + "ä" * (MEBIBYTE // 2) + "</body>",
)  # fmt: skip

TYPES = (1, 0, 2, 4, 6, 33, -3)
OUR_ALERTS = ("callstatsd-alert-7", "callstatsd-alert-")
NEARLY_ALERTS = (
    "callstatsd-alert",
    " callstatsd-alert-7",
    "Callstatsd-alert-7",
    "my callstatsd-alert-7",
)


def event_data() -> Iterator[str | None]:
    """Yield every text and every body, then every body in another document, without end."""
    for turn in itertools.count():
        yield from TEXTS
        for place, body in enumerate(BODIES):
            yield DOCUMENTS[(turn + place) % len(DOCUMENTS)].replace("{}", body)
        yield from WITHOUT_BODY


def callback_day(calls: int, requests: int, seed: int, now: datetime) -> CallbackDay:
    """Return a day of calls and these requests; what runs or is to come does so at `now`."""
    generator = RequestGenerator(calls, seed, now)
    events = [generator.request(number) for number in range(requests)]
    generator.day.events.extend(events)
    return generator.day


class RequestGenerator:
    """Generates requests; every choice comes from one seeded source."""

    def __init__(self, calls: int, seed: int, now: datetime) -> None:
        self.chance = random.Random(seed)
        self.now = now.replace(microsecond=0)
        self.event_data = event_data()
        sample = sample_calls.day(calls, seed, EVENING)
        sample.calls.extend(self.special_calls())
        tables = {each.name: getattr(sample, each.name) for each in fields(Sample)}
        self.day = CallbackDay(
            **tables
            | {
                "service_numbers": SERVICE_NUMBERS + MORE_SERVICES,
                "users": USERS + NAMELESS,
                "groups": GROUPS + EMPTY_GROUPS,
            },
            nick_names=NICK_NAMES,
            foreign_ids=FOREIGN_IDS,
        )

    def special_calls(self) -> list[Call]:
        """Return calls that a day seldom has: running, of another client, of the repeated hour."""
        recently = {"dtcallstart": self.now - timedelta(minutes=50, milliseconds=1)}
        past = {"dtcallstart": EVENING - timedelta(hours=2), "dtcallend": EVENING}
        return [
            rows.call(RUNNING, **recently, dtcallend=None),
            rows.call(LONG_RUNNING, **recently, dtcallend=None, userdata=ids(702)[0]),
            rows.call(OTHERS, **past, clientsid=OTHER_CLIENT),
            rows.call(
                ENDED_AT_NIGHT,
                dtcallstart=NIGHT,
                dtcallend=NIGHT + timedelta(milliseconds=1),
                userdata=None,
            ),
            rows.call(OUTBOUND, **past, boutbound=True, userdata="no id", servicenumbersid=None),
            rows.call(OWN_RECORD, **past, userdata=f" {ids(706)[1]}\n", servicenumbersid=5),
            rows.call(NO_NUMBERS, **past, anumber="", userdata="", servicenumbersid=7),
            rows.call(ENDLESS, dtcallstart=EVENING, dtcallend=INFINITY),
            *(
                rows.call(
                    910 + place,
                    **past,
                    servicenumbersid=service,
                    anumber=self.chance.choice(NUMBERS),
                    bnumber=self.chance.choice(NUMBERS),
                    boutbound=self.chance.random() < 0.5,
                    userdata=self.user_data(),
                )
                for place, service in enumerate(SERVICES_OF_CALLS * 3)
            ),
        ]

    def request(self, number: int) -> Event:
        """Return an event: the ids are those of calls, as each table counts from 1."""
        call = self.call_id()
        return Event(
            id=sample_calls.EXAMPLE_CALL + number + (2**40 if number % 50 == 7 else 0),
            clientsid=self.weighted((CLIENT, 8), (None, 3), (OTHER_CLIENT, 1)),
            acdeventtypesid=self.weighted((3, 24), (self.chance.choice(TYPES), 1)),
            acdgroupsid=self.reference(1, 10),
            acdconfigurationgroupsid=self.reference(1, 10),
            acdagentgroupsid=self.reference(1, 10),
            usersid=self.reference(1, 42),
            creatingusersid=self.reference(1, 5),
            statisticspartaid=call,
            sender=self.chance.choice(NUMBERS),
            receiver=self.chance.choice(NUMBERS),
            subject=self.chance.choice(SUBJECTS),
            eventdata=next(self.event_data),
            userdata=self.user_data(),
            salesforcequeryresult=self.weighted(
                (None, 6), (0, 1), (1, 1), (2, 1), (3, 1), (-1, 1), (300, 1)
            ),
            dtcreated=self.created(call),
        )

    def call_id(self) -> int | None:
        """Return the id of any call, of one that is gone, or NULL."""
        special = self.chance.randrange(RUNNING, 910 + 3 * len(SERVICES_OF_CALLS))
        of_the_day = sample_calls.EXAMPLE_CALL + self.chance.randrange(40)
        return self.weighted(
            (None, 5), (special, 8), (of_the_day, 5), (GONE, 1), (OTHERS, 1), (0, 0.5)
        )

    def created(self, call: int | None) -> datetime:
        """Return a time of the day; now and then to come, too early, or while the call runs."""
        minutes = self.chance.randrange(1, 500)
        usual = EVENING - timedelta(minutes=minutes, milliseconds=self.chance.randrange(1000))
        if call in (RUNNING, LONG_RUNNING):
            usual = self.now - timedelta(minutes=10 if call == RUNNING else 45)
        to_come = self.now + timedelta(hours=1)
        early = FLOOR - timedelta(milliseconds=1)
        return self.weighted((usual, 40), (to_come, 1), (early, 1), (FLOOR, 1), (EVENING, 5))

    def reference(self, low: int, high: int) -> int | None:
        """Return the id of a master row, of one that is gone, or NULL."""
        return self.weighted((None, 5), (self.chance.randint(low, high), 5), (GONE, 1))

    def user_data(self) -> str | None:
        """Return a record's id in either form, what is nearly one, or something else."""
        number = self.weighted((self.chance.randrange(5), 1), (self.chance.randrange(9000), 4))
        ending = self.weighted(("", 12), ("404", 1), ("409", 1), ("400", 1))
        short, long = ids(number, ending, self.chance.choice(("003", "500", "00Q")))
        wrong_suffix = long[:17] + ("A" if long[17] != "A" else "B")
        no_ids = (
            "",
            " ",
            "4711",
            short[:14],
            f"{short}A",
            wrong_suffix,
            f"{short[:14]}é",
            f"0{long}",
        )
        return self.weighted(
            (short, 12), (long, 12), (f" {short}\t", 1), (f"\n{long} ", 1), (None, 6),
            (self.chance.choice(no_ids), 5), (self.chance.choice(OUR_ALERTS), 1),
            (self.chance.choice(NEARLY_ALERTS), 1),
        )  # fmt: skip

    def weighted(self, *choices: tuple[T, float]) -> T:
        """Return one of the values, each as often as its weight says."""
        values = [value for value, _ in choices]
        return self.chance.choices(values, [weight for _, weight in choices])[0]
