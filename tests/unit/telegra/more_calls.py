# ruff: noqa: E501 - a record is a line
"""Consultations, outbound calls and odd ones, written from the documentation's words."""

from datetime import UTC, datetime

from tests.support.telegra_scripts import Script

CONSULTED = [
    Script(
        "an agent is consulted, who gives the call back",
        """
        0 CallStart mode=0 hotline=7 from=0221555 to=0800999
        1 Alerting agent=100001
        2 Connected agent=100001
        10 ConfAgent agent=100001 conf_agent=100002
        13 ConfConnectedWithAgent agent=100001 conf_agent=100002
        23 ConfConnectedWithCaller agent=100001
        28 ConfConnectedWithAgent agent=100001
        30 ConfEnd agent=100001 conf_agent_terminated=100002
        50 CallEnd tried=1 connected=1
        """,
        """
        call in 49221555 > 49800999 service=7 0 1 2 50 cause=16 data=-
        leg 2 visit=- agent=100001 1 1 2 50 1/16
        leg 4 visit=- agent=100002 10 - 13 30 1/16
        """,
        """
        - 100001 0 49221555 49800999 - - - 10:00:01 10:00:01 10:00:02 10:00:50 48 1 16 -
        - 100002 0 49221555 49800999 - - - 10:00:10 - 10:00:13 10:00:30 17 1 16 -
        """,
    ),
    Script(
        "an agent is consulted and takes the call over",
        """
        0 CallStart mode=0 hotline=7 group=40 from=0221555 to=0800999
        1 Alerting agent=100001
        2 Connected agent=100001
        10 ConfAgent agent=100001 conf_agent=100002
        13 ConfConnected agent=100001
        20 ConfTransfer agent=100001
        80 Working agent=100002
        80.2 CallEnd tried=1 connected=1
        """,
        """
        call in 49221555 > 49800999 service=7 0 1 2 80.2 cause=16 data=-
        visit 1 group=40 0
        leg 2 visit=1 agent=100001 1 1 2 20 1/16
        leg 4 visit=1 agent=100002 10 - 13 80 1/16
        """,
        """
        - 100001 0 49221555 49800999 - - - 10:00:01 10:00:01 10:00:02 10:00:20 18 1 16 -
        - 100002 0 49221555 49800999 - - - 10:00:10 - 10:00:13 10:01:20 67 1 16 -
        """,
    ),
    Script(
        "an external number is consulted, is busy, then does not answer, then takes over",
        """
        0 CallStart mode=0 hotline=7 from=0221555 to=0800999
        2 Connected agent=100001
        10 ConfNumber agent=100001 conf_number=0301234
        12 ConfBusy agent=100001
        20 ConfNumber agent=100001 conf_number=0301234
        40 ConfTimeout agent=100001
        50 ConfNumber agent=100001 conf_number=0301235
        55 ConfConnectedWithNumber agent=100001
        60 ConfTransfer agent=100001
        90 CallEnd tried=1 connected=1
        """,
        """
        call in 49221555 > 49800999 service=7 0 - 2 90 cause=16 data=-
        leg 2 visit=- agent=100001 2 - 2 60 1/16
        leg 3 visit=- agent=- 10 - - 12 3/17
        leg 5 visit=- agent=- 20 - - 40 2/19
        leg 7 visit=- agent=- 50 - 55 90 1/16
        """,
        """
        - 100001 0 49221555 49800999 - - - 10:00:02 - 10:00:02 10:01:00 58 1 16 -
        - - 0 49221555 49800999 - - - 10:00:10 - - 10:00:12 -1 3 17 -
        - - 0 49221555 49800999 - - - 10:00:20 - - 10:00:40 -1 2 19 -
        - - 0 49221555 49800999 - - - 10:00:50 - 10:00:55 10:01:30 35 1 16 -
        """,
    ),
    Script(
        "a conference of three until the end",
        """
        0 CallStart mode=0 hotline=7 from=0221555 to=0800999
        2 Connected agent=100001
        10 ConfAgent agent=100001 conf_agent=100002
        12 ConfConnectedWithAgent agent=100001
        15 ConfConference agent=100001
        45 CallEnd tried=1 connected=1
        """,
        """
        call in 49221555 > 49800999 service=7 0 - 2 45 cause=16 data=-
        leg 2 visit=- agent=100001 2 - 2 45 1/16
        leg 3 visit=- agent=100002 10 - 12 45 1/16
        """,
        """
        - 100001 0 49221555 49800999 - - - 10:00:02 - 10:00:02 10:00:45 43 1 16 -
        - 100002 0 49221555 49800999 - - - 10:00:10 - 10:00:12 10:00:45 33 1 16 -
        """,
    ),
    Script(
        "a consultation that ends before it was answered; a group has no leg",
        """
        0 CallStart mode=0 hotline=7 from=0221555 to=0800999
        2 Connected agent=100001
        5 ConfGroup agent=100001
        9 ConfConnected agent=100001
        10 ConfAgent agent=100001 conf_agent=100002
        12 ConfEnd agent=100001
        45 CallEnd tried=1 connected=1
        """,
        """
        call in 49221555 > 49800999 service=7 0 - 2 45 cause=16 data=-
        leg 2 visit=- agent=100001 2 - 2 45 1/16
        leg 5 visit=- agent=100002 10 - - 12 2/16
        """,
        """
        - 100001 0 49221555 49800999 - - - 10:00:02 - 10:00:02 10:00:45 43 1 16 -
        - 100002 0 49221555 49800999 - - - 10:00:10 - - 10:00:12 -1 2 16 -
        """,
    ),
]

OUTBOUND = [
    Script(
        "outbound, answered, with wrap-up",
        """
        0 CallStart mode=1 mandator=3 from=02212601 to=+49301234 agent=100001
        0.5 Alerting mode=1 mandator=3 agent=100001
        2 AConnected mode=1 mandator=3 agent=100001
        9 BConnected mode=1 mandator=3 agent=100001
        9.3 state mode=1 mandatorid=3 mandator=Campaign requesttext=0D5D0000000XZoH
        39 OutWorking mode=1 agent=100001
        40 CallEnd mode=1 tried=1 connected=1
        """,
        """
        call out 492212601 > 49301234 service=-3 0 0.5 9 40 cause=16 data=0D5D0000000XZoH
        leg 2 visit=- agent=100001 0.5 2 9 39 1/16
        """,
        """
        0D5D0000000XZoH 100001 1 49301234 - Campaign - - 10:00:00 10:00:02 10:00:09 10:00:39 30 1 16 -
        """,
    ),
    Script(
        "outbound, the customer does not answer",
        """
        0 CallStart mode=1 mandator=3 from=02212601 to=0301234
        1 Alerting mode=1 agent=100001
        2 AConnected mode=1 agent=100001
        32 BTimeout mode=1 agent=100001
        33 CallEnd mode=1 tried=1 connected=0
        """,
        """
        call out 492212601 > 49301234 service=-3 0 1 - 33 cause=16 data=-
        leg 2 visit=- agent=100001 1 2 - 32 2/19
        """,
        """
        - 100001 1 49301234 - - - - 10:00:01 10:00:02 - 10:00:32 -1 2 19 -
        """,
    ),
    Script(
        "outbound, the customer is busy; no Alerting was told",
        """
        0 CallStart mode=1 mandator=3 from=02212601 to=0301234
        2 AConnected mode=1 agent=100001
        5 BBusy mode=1
        6 CallEnd mode=1 tried=1 connected=0
        """,
        """
        call out 492212601 > 49301234 service=-3 0 - - 6 cause=16 data=-
        leg 2 visit=- agent=100001 2 2 - 5 3/17
        """,
        """
        - 100001 1 49301234 - - - - 10:00:02 10:00:02 - 10:00:05 -1 3 17 -
        """,
    ),
    Script(
        "outbound, the agent's own phone is not answered",
        """
        0 CallStart mode=1 mandator=3 from=02212601 to=0301234
        1 Alerting mode=1 agent=100001
        21 Timeout mode=1 agent=100001
        22 CallEnd mode=1 tried=1 connected=0
        """,
        """
        call out 492212601 > 49301234 service=-3 0 1 - 22 cause=16 data=-
        leg 2 visit=- agent=100001 1 - - 21 0/19
        """,
        """
        - 100001 1 49301234 - - - - 10:00:01 - - 10:00:21 -1 0 19 -
        """,
    ),
    Script(
        "outbound, the agent's own phone is busy, and a second try opens no second leg",
        """
        0 CallStart mode=1 mandator=3 from=02212601 to=0301234
        1 Alerting mode=1 agent=100001
        2 Busy mode=1 agent=100001
        3 Alerting mode=1 agent=100001
        4 CallEnd mode=1 tried=1 connected=0
        """,
        """
        call out 492212601 > 49301234 service=-3 0 1 - 4 cause=16 data=-
        leg 2 visit=- agent=100001 1 - - 2 0/17
        """,
        """
        - 100001 1 49301234 - - - - 10:00:01 - - 10:00:02 -1 0 17 -
        """,
    ),
    Script(
        "outbound, ended while the customer's phone rang",
        """
        0 CallStart mode=1 mandator=3 from=02212601 to=0301234
        1 Alerting mode=1 agent=100001
        2 AConnected mode=1 agent=100001
        8 CallEnd mode=1 tried=1 connected=0
        """,
        """
        call out 492212601 > 49301234 service=-3 0 1 - 8 cause=16 data=-
        leg 2 visit=- agent=100001 1 2 - 8 2/16
        """,
        """
        - 100001 1 49301234 - - - - 10:00:01 10:00:02 - 10:00:08 -1 2 16 -
        """,
    ),
    Script(
        "outbound, ended before the agent took up the phone",
        """
        0 CallStart mode=1 mandator=3 from=02212601 to=0301234
        1 Alerting mode=1 agent=100001
        3 CallEnd mode=1 tried=1 connected=0
        """,
        """
        call out 492212601 > 49301234 service=-3 0 1 - 3 cause=16 data=-
        leg 2 visit=- agent=100001 1 - - 3 0/16
        """,
        """
        - 100001 1 49301234 - - - - 10:00:01 - - 10:00:03 -1 0 16 -
        """,
    ),
]

ODD = [
    Script(
        "classified in the wrap-up and by an agent who missed it, in another's time",
        """
        0 CallStart mode=0 hotline=7 group=40 from=0221555 to=0800999
        1 Alerting agent=100001 group=40
        5 Timeout agent=100001
        6 Alerting agent=100002 group=41
        8 Connected agent=100002 group=41
        38 Working agent=100002
        39 CallEnd tried=1 connected=1
        45 classified agent=100002 classificationreason=SOLD
        46 classified agent=100002 classificationreason=MAIL
        47 classified agent=100001 classificationreason=MISSED
        48 classified agent=100009 classificationreason=STRANGER
        """,
        """
        call in 49221555 > 49800999 service=7 0 1 8 39 cause=16 data=-
        visit 1 group=40 0
        visit 4 group=41 6
        leg 2 visit=1 agent=100001 1 1 - 5 2/19
        leg 4 visit=4 agent=100002 6 6 8 38 1/16
        code 8 visit=4 leg=4 agent=100002 SOLD 45
        code 9 visit=4 leg=4 agent=100002 MAIL 46
        code 10 visit=1 leg=2 agent=100001 MISSED 47
        code 11 visit=- leg=- agent=100009 STRANGER 48
        """,
        """
        - 100001 0 49221555 49800999 - - - 10:00:01 10:00:01 - 10:00:05 -1 2 19 MISSED
        - 100002 0 49221555 49800999 - - - 10:00:06 10:00:06 10:00:08 10:00:38 30 1 16 SOLD
        - 100002 0 49221555 49800999 - - - 10:00:06 10:00:06 10:00:08 10:00:38 30 1 16 MAIL
        - 100009 0 49221555 49800999 - - - 10:00:00 - - 10:00:39 -1 0 16 STRANGER
        """,
    ),
    Script(
        "answered twice by one agent: each code belongs to the talk before it",
        """
        0 CallStart mode=0 hotline=7 from=0221555 to=0800999
        1 Connected agent=100001
        11 ForwardAgent agent=100001
        12 classified agent=100001 classificationreason=FIRST
        13 Connected agent=100002
        23 ForwardAgent agent=100002
        24 Connected agent=100001
        34 CallEnd connected=1 tried=1
        35 classified agent=100001 classificationreason=SECOND
        """,
        """
        call in 49221555 > 49800999 service=7 0 - 1 34 cause=16 data=-
        leg 2 visit=- agent=100001 1 - 1 11 1/16
        leg 5 visit=- agent=100002 13 - 13 23 1/16
        leg 7 visit=- agent=100001 24 - 24 34 1/16
        code 4 visit=- leg=2 agent=100001 FIRST 12
        code 9 visit=- leg=7 agent=100001 SECOND 35
        """,
        """
        - 100001 0 49221555 49800999 - - - 10:00:01 - 10:00:01 10:00:11 10 1 16 FIRST
        - 100002 0 49221555 49800999 - - - 10:00:13 - 10:00:13 10:00:23 10 1 16 -
        - 100001 0 49221555 49800999 - - - 10:00:24 - 10:00:24 10:00:34 10 1 16 SECOND
        """,
    ),
    Script(
        "without CallStart and CallEnd",
        """
        3 Alerting mode=0 hotline=7 agent=100001 from=0221555 to=0800999
        4 Connected agent=100001
        9 Holdstart agent=100001
        """,
        """
        call in 49221555 > 49800999 service=7 3 3 4 - cause=16 data=-
        leg 1 visit=- agent=100001 3 3 4 - -/-
        """,
        """
        - 100001 0 49221555 49800999 - - - 10:00:03 10:00:03 10:00:04 - 0 - - -
        """,
    ),
    Script(
        "told in the wrong order: times decide, then the numbers of the events",
        """
        70 CallEnd tried=1 connected=1 id=6
        9 Connected agent=100001 id=4
        5 Alerting agent=100001 id=3
        0 CallStart mode=0 hotline=7 group=40 from=0221555 to=0800999 id=1
        0 WaitingQueue group=41 id=2
        """,
        """
        call in 49221555 > 49800999 service=7 0 5 9 70 cause=16 data=-
        visit 4 group=40 0
        visit 5 group=41 0
        leg 3 visit=5 agent=100001 5 5 9 70 1/16
        """,
        """
        - - 0 49221555 49800999 - - - 10:00:00 - - 10:01:10 -1 0 16 -
        - 100001 0 49221555 49800999 - - - 10:00:05 10:00:05 10:00:09 10:01:10 61 1 16 -
        """,
    ),
    Script(
        "events without an agent mean the latest leg that they can mean",
        """
        0 CallStart mode=0 hotline=7 from=0221555 to=0800999
        1 Alerting agent=100001
        2 Alerting agent=100002
        3 Busy
        4 Connected
        5 Timeout
        6 Alerting agent=100003
        9 Timeout
        20 Working
        21 CallEnd connected=1 tried=1
        """,
        """
        call in 49221555 > 49800999 service=7 0 1 4 21 cause=16 data=-
        leg 2 visit=- agent=100001 1 1 4 20 1/16
        leg 3 visit=- agent=100002 2 2 - 3 3/17
        leg 7 visit=- agent=100003 6 6 - 9 2/19
        """,
        """
        - 100001 0 49221555 49800999 - - - 10:00:01 10:00:01 10:00:04 10:00:20 16 1 16 -
        - 100002 0 49221555 49800999 - - - 10:00:02 10:00:02 - 10:00:03 -1 3 17 -
        - 100003 0 49221555 49800999 - - - 10:00:06 10:00:06 - 10:00:09 -1 2 19 -
        """,
    ),
    Script(
        "through the hour that the clock repeats",
        """
        0 CallStart mode=0 hotline=7 from=0221555 to=0800999
        600 Connected agent=100001
        2400 CallEnd connected=1 tried=1
        """,
        """
        call in 49221555 > 49800999 service=7 0 - 600 2400 cause=16 data=-
        leg 2 visit=- agent=100001 600 - 600 2400 1/16
        """,
        """
        - 100001 0 49221555 49800999 - - - 02:50:00 - 02:50:00 02:20:00 1800 1 16 -
        """,
        datetime(2026, 10, 25, 0, 40, tzinfo=UTC),
    ),
    Script(
        "through the hour that the clock leaves out",
        """
        0 CallStart mode=0 hotline=7 from=0221555 to=0800999
        600 Connected agent=100001
        2400 CallEnd connected=1 tried=1
        """,
        """
        call in 49221555 > 49800999 service=7 0 - 600 2400 cause=16 data=-
        leg 2 visit=- agent=100001 600 - 600 2400 1/16
        """,
        """
        - 100001 0 49221555 49800999 - - - 01:55:00 - 01:55:00 03:25:00 1800 1 16 -
        """,
        datetime(2026, 3, 29, 0, 45, tzinfo=UTC),
    ),
]
