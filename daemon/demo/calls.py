"""Generates a day of a call centre, as the ACD writes it; the same seed gives the same day."""

import random
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from daemon.demo.record_ids import ids, long_form
from daemon.demo.rows import (
    SERVICE_NUMBERS,
    TRANSACTION_CODES,
    USERS,
    Call,
    Code,
    Leg,
    Sample,
    Visit,
)

EXAMPLE_CALL = 1201
"""The call of the vendor's example, always the first of the day."""

HOURS = timedelta(hours=10)
# The last call starts this long before the end of the day, so that it and its codes are complete.
QUIET = timedelta(minutes=40)


class Customer(NamedTuple):
    """Who calls: the number in E.164 without plus, and the 15-character id of the record."""

    number: str
    record: str | None


# AcdGroupsID, AcdAgentGroupsID, AcdConfigurationGroupsID: standalone groups and configured ones.
ROUTES = ((3, None, None), (4, 4, None), (5, 5, 7), (4, 5, 7), (3, None, 8), (6, 6, 6))
# No row has this id.
GONE = 999_999_999

# Number ranges that the regulator keeps for films: prefix after the country code, digits to come.
FILM_NUMBERS = (("3023125", 3), ("4066969", 3), ("8999998", 3), ("6990009", 3), ("17139200", 2))
WITHHELD = (None, "", "anonymous", "sip:anonymous@anonymous.invalid")

# How long it rings, where it rings at all, and the cause that goes with a CONNRES.
RINGS = {1: (1, 15), 2: (12, 25), 4: (1, 9)}
CAUSES = {1: 16, 2: 19, 3: 17, 4: 21}
ISDN_CAUSES = (1, 18, 20, 27, 34, 38, 41)

# Kinds of calls: how common, and what happens. V routes to a group, D routes to one whose row is
# gone; a digit is an attempt with that CONNRES, by an agent where the call is in a group; I leaves
# the groups; C is a code without a leg, L one whose leg is gone; G is an answer by an agent
# without a master row, N an answer whose times were lost. Who answers may record codes.
KINDS = {
    "answered": (32, "V1"),
    "missed": (6, "V21"),
    "busy": (3, "V31"),
    "refused": (4, "V41"),
    "isdn": (2, "V51"),
    "error": (1, "V71"),
    "other_results": (1, "V0689"),
    "abandoned": (6, "V24"),
    "group_transfer": (6, "V21V1"),
    "agent_transfer": (5, "V11"),
    "queue_hangup": (9, "V"),
    "ivr_hangup": (6, ""),
    "ivr_dial": (4, "1"),
    "ivr_dial_in_vain": (2, "35"),
    "ivr_dial_after_group": (1, "V2I1"),
    "code_without_leg": (1.5, "VCIC"),
    "withheld": (2, "V1"),
    "unknown_caller": (4, "V1"),
    "outbound": (10, "V1"),
    "outbound_in_vain": (4, "V2"),
    "never_ended": (0.3, "V1"),
    "lost_group": (0.3, "D1"),
    "lost_leg": (0.3, "V1L"),
    "lost_times": (0.3, "VN"),
    "lost_masters": (0.3, "VG"),
    "lost_service": (0.3, "V1"),
}


def day(calls: int, seed: int, end: datetime) -> Sample:
    """Return `calls` calls that ended in the ten hours before `end` (aware), by at least 2 minutes.

    The rare calls that never end started the evening before. Codes follow calls within 100 s.
    """
    generator = CallGenerator(calls, seed, end)
    generator.example()
    for kind, start in zip(generator.kinds(calls - 1), generator.starts(calls - 1), strict=True):
        generator.call(kind, start)
    return generator.sample


class CallGenerator:
    """Generates a day; every choice comes from one seeded source."""

    def __init__(self, calls: int, seed: int, end: datetime) -> None:
        """Create a customer for every four calls, and some who call often."""
        self.chance = random.Random(seed)  # noqa: S311 - to be repeated, not to be secret
        end = end.astimezone(UTC)
        self.end = end.replace(microsecond=end.microsecond // 1000 * 1000)
        self.sample = Sample()
        self.customers = [self.customer(number) for number in range(max(20, calls // 4))]
        self.regulars = self.customers[: max(4, len(self.customers) // 20)]

    def customer(self, number: int) -> Customer:
        """Return a customer: five in six have a record; 2 % each have a missing or refused one."""
        country = self.chance.choices(("49", "43", "41"), (90, 6, 4))[0]
        prefix, digits = self.chance.choice(FILM_NUMBERS)
        phone = f"{country}{prefix}{self.chance.randrange(10**digits):0{digits}}"
        # Fixed places, the first among the regulars, so that a short day has them too.
        ending = {2: "404", 3: "409"}.get(number % 50, "")
        known = ending or self.chance.random() < 5 / 6
        return Customer(phone, ids(number, ending)[0] if known else None)

    def kinds(self, count: int) -> list[str]:
        """Return random kinds of calls: each at least once if there are enough calls."""
        weights = [weight for weight, _ in KINDS.values()]
        kinds = [*KINDS, *self.chance.choices(list(KINDS), weights, k=max(count, 0))][:count]
        self.chance.shuffle(kinds)
        return kinds

    def starts(self, count: int) -> list[datetime]:
        """Return start times over the day, with a peak before noon and one after."""
        peaks = ((0.0, 0.55, 0.25), (0.45, 1.0, 0.75))
        places = (self.chance.triangular(*self.chance.choice(peaks)) for _ in range(count))
        opening, span = self.end - HOURS, (HOURS - QUIET).total_seconds()
        return sorted(opening + timedelta(milliseconds=int(p * span * 1000)) for p in places)

    def later(self, at: datetime, low: float, high: float) -> datetime:
        """Return a time `low` to `high` seconds later, in whole milliseconds."""
        return at + timedelta(milliseconds=int(self.chance.uniform(low, high) * 1000))

    def call(self, kind: str, start: datetime) -> None:
        """Add a call by or to a customer, with all its rows."""
        if kind == "never_ended":
            start = self.later(self.end - timedelta(hours=20), 0, 6 * 3600)
        outbound = kind.startswith("outbound")
        again = self.chance.random() < 0.35
        customer = self.chance.choice(self.regulars if again else self.customers)
        service = self.chance.choices(SERVICE_NUMBERS, (40, 25, 20, 10, 5))[0]
        number = self.format_number(customer.number)
        if not outbound and (kind == "withheld" or self.chance.random() < 0.03):
            number = self.chance.choice(WITHHELD)
        call_id = EXAMPLE_CALL + len(self.sample.calls)
        alert = self.later(start, 0.02, 0.9)
        connect = self.later(alert, 0.1, 2)
        ended = self.follow(call_id, self.later(connect, 1, 40), KINDS[kind][1])
        record = None if kind == "unknown_caller" else customer.record
        self.sample.calls.append(
            Call(
                id=call_id,
                clientsid=1,
                servicenumbersid=GONE if kind == "lost_service" else service.id,
                boutbound=outbound,
                anumber=service.name if outbound else number,
                bnumber=number if outbound else service.name,
                dtcallstart=start,
                dtcallalert=alert,
                dtcallconnect=None if kind == "outbound_in_vain" else connect,
                dtcallend=None if kind == "never_ended" else self.later(ended, 0.001, 1.5),
                causecodesid=self.chance.choices((16, 31, None), (94, 4, 2))[0],
                userdata=self.user_data(record),
            )
        )

    def follow(self, call_id: int, at: datetime, plan: str) -> datetime:
        """Add the rows of a plan of KINDS from `at` on, and return when its last step ended."""
        visit: int | None = None
        for step in plan:
            if step == "V":
                visit = self.visit(call_id, at, self.chance.choice(ROUTES))
                at = self.later(at, 0.5, 100)
            elif step == "D":
                visit = GONE
            elif step == "I":
                visit = None
            elif step in "CL":
                gone = GONE if step == "L" else None
                self.code(call_id, (visit, gone, self.agent()), at)
            elif step == "N":
                self.lost_times(call_id, visit, at)
            elif step == "G":
                visit = self.visit(call_id, at, (GONE, GONE, GONE))
                leg = self.leg(call_id, visit, GONE, at, 1)
                at = leg.dtcallend or at
                self.code(call_id, (visit, leg.id, GONE), at, code=GONE)
            else:
                agent = None if visit is None else self.agent()
                leg = self.leg(call_id, visit, agent, self.later(at, 0.2, 12), int(step))
                at = leg.dtcallend or at
                self.wrap_up(leg)
        return at

    def user_data(self, record: str | None) -> str | None:
        """Return the id in either form, as the IVR found it, or other contents of UserData."""
        if record is None:
            return self.chance.choices((None, "", "4711", "no match"), (85, 5, 5, 5))[0]
        form = record if self.chance.random() < 0.5 else long_form(record)
        return f" {form} " if self.chance.random() < 0.01 else form

    def format_number(self, number: str) -> str | None:
        """Return a number in the format of a random trunk."""
        country, area, rest = number[:2], number[2:4], number[4:]
        formats = (
            number,
            f"+{number}",
            f"00{number}",
            f"+{country} (0) {area} {rest}",
            f"sip:+{number}@10.20.30.40;user=phone",
            f"tel:+{country}-{area}-{rest}",
        )
        return self.chance.choices(formats, (30, 25, 15, 10, 15, 5))[0]

    def agent(self) -> int:
        """Return a random agent."""
        return self.chance.choice(USERS)[0]

    def visit(self, call_id: int, at: datetime, route: tuple[int | None, ...]) -> int:
        """Add a group that the call was routed to."""
        number = 2201 + len(self.sample.visits)
        group, agents, configuration = route
        self.sample.visits.append(Visit(number, call_id, group, agents, configuration, at))
        return number

    def leg(
        self, call_id: int, visit: int | None, user: int | None, at: datetime, connres: int
    ) -> Leg:
        """Add an attempt to reach an agent, with times and a cause that fit its result."""
        alert = connect = None
        end = self.later(at, 0.05, 0.8)
        if connres in RINGS:
            alert = self.later(at, 0.1, 0.9)
            end = self.later(alert, *RINGS[connres])
        if connres == 1:
            connect = end
            # One in a hundred hangs up at once: nDuration 0 or 1.
            longest = 0.9 if self.chance.random() < 0.01 else 240
            end = self.later(connect, min(8, longest / 4), longest)
        cause = self.chance.choice(ISDN_CAUSES) if connres == 5 else CAUSES.get(connres)
        number = 3201 + len(self.sample.legs)
        leg = Leg(number, call_id, visit, user, at, alert, connect, end, connres, cause)
        self.sample.legs.append(leg)
        return leg

    def lost_times(self, call_id: int, visit: int | None, at: datetime) -> None:
        """Add a leg that never started, and one that connected and never ended."""
        number = 3201 + len(self.sample.legs)
        agent = self.agent()
        self.sample.legs.extend(
            [
                Leg(number, call_id, visit, agent, None, None, None, None, None, None),
                Leg(number + 1, call_id, visit, agent, at, at, at, None, 1, None),
            ]
        )

    def code(
        self, call_id: int, about: tuple[int | None, ...], at: datetime, *, code: int | None = None
    ) -> None:
        """Add a code for a visit, leg and user, sometimes with the id of another record."""
        number = 4201 + len(self.sample.codes)
        chosen = code or self.chance.choices(TRANSACTION_CODES, (5, 5, 5, 30, 45, 9, 1))[0][0]
        note = self.chance.choices(("", "case", "text", "blank"), (88, 6, 5, 1))[0]
        data = {"text": "Kunde ruft zurück", "blank": "   "}.get(note)
        if note == "case":
            data = self.chance.choice(ids(self.chance.randrange(5000), kind="500"))
        visit, leg, user = about
        self.sample.codes.append(Code(number, call_id, visit, leg, chosen, user, at, data))

    def wrap_up(self, leg: Leg) -> None:
        """Add no, one or two codes of the agent who answered, during the call or afterwards."""
        if leg.dtcallconnect is None or leg.dtcallend is None:
            return
        talk = (leg.dtcallend - leg.dtcallconnect).total_seconds()
        for _ in range(self.chance.choices((0, 1, 2), (35, 55, 10))[0]):
            talking = self.chance.random() < 0.3
            when = (leg.dtcallconnect, 0.0, talk) if talking else (leg.dtcallend, 2.0, 90.0)
            about = (leg.acdstatisticspartbid, leg.id, leg.usersid)
            self.code(leg.statisticspartaid, about, self.later(*when))

    def example(self) -> None:
        """Add the vendor's example call: two groups, four attempts, three codes, five lines."""
        start = self.end - HOURS - timedelta(minutes=20)

        def at(seconds: float) -> datetime:
            return start + timedelta(seconds=seconds)

        call = EXAMPLE_CALL
        first = self.visit(call, at(20.25), (1, 1, 1))
        second = self.visit(call, at(75.5), (2, 2, 2))
        self.sample.legs.extend(
            [
                Leg(3201, call, first, 1, at(24), at(24.6), None, at(44.7), 2, 19),
                Leg(3202, call, first, 2, at(50), at(50.4), None, at(55.125), 4, 21),
                Leg(3203, call, second, 3, at(80), at(80.5), at(86.75), at(206.249), 1, 16),
                Leg(3204, call, second, 4, at(190), at(190.3), at(195.5), at(406.0), 1, 16),
            ]
        )
        self.sample.codes.extend(
            [
                Code(4201, call, second, 3203, 1, 3, at(180.123), None),
                Code(4202, call, second, 3204, 2, 4, at(400.5), None),
                Code(4203, call, second, 3204, 3, 4, at(430.75), None),
            ]
        )
        numbers = ("+49 (0) 30 23125 017", SERVICE_NUMBERS[0].name)
        times = (start, at(0.2), at(1.0), at(406.5))
        self.sample.calls.append(Call(call, 1, 1, False, *numbers, *times, 16, ids(0)[1]))
