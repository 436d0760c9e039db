"""A day of a Telegra ACD, with calls of every kind; the same seed gives the same day."""

import random
from datetime import datetime, timedelta

from daemon.demo.record_ids import expected_outcome, ids

Parameters = dict[str, str]

INBOUND = {
    "answered": "Alerting:a Connected:a Working:a CallEnd",
    "hung up": "Alerting:a Connected:a Holdstart:a Holdstop:a CallEnd",
    "missed": "Alerting:a Timeout:a Alerting:b Timeout:b CallEnd",
    "given up": "WaitingQueue Alerting:a CallEnd",
    "busy": "Alerting:a Busy:a Alerting:b Connected:b CallEnd",
    "refused": "Announcement Rejected CallEnd",
    "broken": "Alerting:a BadCall:a CallEnd",
    "mailbox": "Announcement Mailbox CallEnd",
    "to an agent": "Alerting:a Connected:a ForwardAgent:a Alerting:b Connected:b CallEnd",
    "to a group": "Alerting:a Connected:a ForwardGroup:a/ Alerting:b Connected:b Working:b CallEnd",
    "to a hotline": "Connected:a ForwardHotline:a/ WaitingQueue Connected:b CallEnd",
    "to a number": "Alerting:a Connected:a ForwardNumber:a CallEnd",
    "consulted": "Connected:a ConfAgent:a>b ConfConnectedWithAgent:a>b ConfEnd:a>b CallEnd",
    "taken over": "Connected:a ConfAgent:a>b ConfConnected:a>b ConfTransfer:a>b Working:b CallEnd",
    "nobody there": "Connected:a ConfNumber:a ConfBusy:a ConfNumber:a ConfTimeout:a CallEnd",
    "number takes over": "Connected:a ConfNumber:a ConfConnectedWithNumber:a ConfTransfer CallEnd",
    "conference": "Connected:a ConfAgent:a>b ConfConnectedWithAgent:a>b ConfConference:a CallEnd",
    "unheard of": "Alerting:a Whisper:a Connected:a CallEnd",
    "without a word of the agent": "Alerting:a Connected Working CallEnd",
}
OUTBOUND = {
    "reached": "Alerting:a AConnected:a BConnected:a OutWorking:a CallEnd",
    "no answer": "Alerting:a AConnected:a BTimeout:a CallEnd",
    "engaged": "AConnected:a BBusy:a CallEnd",
    "own phone": "Alerting:a Timeout:a CallEnd",
    "own phone engaged": "Alerting:a Busy:a CallEnd",
    "called off": "Alerting:a AConnected:a CallEnd",
    "called off at once": "Alerting:a CallEnd",
}
KINDS = [(kind, "0") for kind in INBOUND.values()] + [(kind, "1") for kind in OUTBOUND.values()]
NUMBERS = ("+492212601{:03}", "00492212601{:03}", "02212601{:03}", "0015552{:03}", "+15552{:03}")
REASONS = ("SOLD", "COMPLAINT", "Rückruf", "MAIL")


class Day:
    """Makes notifications; `told` has them in the order in which they happened."""

    def __init__(self, calls: int, seed: int, until: datetime) -> None:
        """The calls end within the ten hours before `until`."""
        self._chance = random.Random(seed)
        known = (ids(number)[1] for number in range(1, 200))
        self._record_ids = [one for one in known if expected_outcome(one) == "exists"][:50]
        self._number = 0
        self.told: list[Parameters] = []
        self.late: list[Parameters] = []
        for call in range(calls):
            kind, mode = KINDS[call % len(KINDS)]
            start = until - timedelta(seconds=self._chance.uniform(4000, 36_000))
            self._call(f"{0xA5F0000 + call:X}", kind, mode, start.replace(microsecond=0))
        for plan in range(calls // 20):
            self._plan(plan, until)
        self._names()

    def _call(self, task: str, kind: str, mode: str, start: datetime) -> None:
        chance, agents = self._chance, self._chance.sample(range(100_001, 100_040), 2)
        group, hotline = chance.choice((40, 41, 42)), chance.choice((7, 8))
        number = chance.choice(NUMBERS).format(chance.randrange(1000))
        if chance.random() < 0.1:
            number = f"{number[:-3]}xxx"
        common = {"cmd": "callevent", "taskid": task, "mode": mode}
        place = {"mandatorid": "3"} if mode == "1" else {"hotlineid": str(hotline)}
        hotline_number = {"callednumber": f"0800100{hotline}"}
        numbers = {"callingnumber": "02212601", "callednumber": number}
        if mode == "0":
            numbers = {"callingnumber": number} | hotline_number
        events = [("CallStart", common | place | numbers)]
        for step in kind.split():
            name, _, who = step.rstrip("/").partition(":")
            asking, _, asked = who.partition(">")
            told = common | place
            if asking:
                told |= {"agentid": str(agents["ab".index(asking)])}
            if asked or (name == "ConfAgent" and not asked):
                told |= {"conf_agent": str(agents["ab".index(asked or "b")])}
            if name != "CallEnd" and not name.startswith("Conf") and mode == "0":
                told |= {"groupid": str(group)}
            if step.endswith("/"):
                group += 1
            events.append((name, told))
        self._tell(events, start)
        end = start + timedelta(seconds=600)
        if chance.random() < 0.3:
            state = {"cmd": "agentstate", "taskid": task.lower(), "state": "connected"}
            text = f"Case {chance.choice(self._record_ids)} of the shop"
            self._add(self.told, state | {"requesttext": text}, start)
        if chance.random() < 0.4:
            call_id = chance.choice((task, task.lower(), f"000{task}", str(int(task, 16))))
            told = {"cmd": "classificationevent", "callid": call_id, "agent": str(agents[0])}
            reason = {"classificationreason": chance.choice(REASONS)}
            into = self.late if chance.random() < 0.1 else self.told
            self._add(into, told | reason | {"classificationcategoryid": "1"}, end)

    def _tell(self, events: list[tuple[str, Parameters]], start: datetime) -> None:
        """Some lose their end or another event; some happen in one millisecond."""
        chance, at = self._chance, start
        lost = chance.choice(("CallEnd", "CallStart", "Alerting")) if chance.random() < 0.05 else ""
        for name, told in events:
            if name != lost:
                self._add(self.told, told | {"eventtype": name}, at)
            if chance.random() > 0.05:
                at += timedelta(milliseconds=chance.randrange(1, 90_000))

    def _plan(self, number: int, at: datetime) -> None:
        told = {
            "cmd": "schedulecallevent", "scheduleid": str(500 + number),
            "callednumber": f"+4930123{number}", "agentid": "100001",
            "agenttype": self._chance.choice(("ONLY_AGENT", "EVERYONE")),
            "nextretrystartdate": "2026-11-21 10:00", "nextretryenddate": "2026-11-21 12:00",
            "requesttext": f"about {self._record_ids[number % 50]}",
        }  # fmt: skip
        self._add(self.told, told, at - timedelta(seconds=5000 + number))

    def _names(self) -> None:
        for kind, row in (("group", 40), ("group", 41), ("hotline", 7), ("mandator", 3)):
            self._add(
                self.told, {"cmd": "agentstate", kind: f"{kind} {row}", f"{kind}id": str(row)}
            )

    def _add(self, into: list[Parameters], told: Parameters, at: datetime | None = None) -> None:
        self._number += 1
        given = told | {"customerNumber": "4711", "id": str(self._number)}
        when = {} if at is None else {"eventtime": str(round(at.timestamp() * 1000))}
        into.append(given | when)
