# ruff: noqa: E501 - a record is a line
"""Inbound calls, written from the words of the ACD's documentation and of the contract."""

from tests.support.telegra_scripts import Script

INBOUND = [
    Script(
        "answered",
        """
        0 CallStart mode=0 hotline=7 from=+492212601599 to=080012345
        2 WaitingQueue mode=0 hotline=7 group=40
        5 Alerting mode=0 hotline=7 group=40 agent=100001
        9 Connected mode=0 hotline=7 group=40 agent=100001
        9.1 state hotlineid=7 hotline=Hotline groupid=40 group=Support
        69.5 Working mode=0 group=40 agent=100001
        70 CallEnd mode=0 hotline=7 tried=1 connected=1
        """,
        """
        call in 492212601599 > 4980012345 service=7 0 5 9 70 cause=16 data=-
        visit 2 group=40 2
        leg 3 visit=2 agent=100001 5 5 9 69.5 1/16
        """,
        """
        - 100001 0 492212601599 4980012345 Hotline Support Support 10:00:05 10:00:05 10:00:09 10:01:09 61 1 16 -
        """,
    ),
    Script(
        "answered, and the caller hangs up before any wrap-up",
        """
        0 CallStart mode=0 hotline=7 from=0221555 to=0800999
        3 Alerting agent=100001
        4 Connected agent=100001
        34 CallEnd tried=1 connected=1
        """,
        """
        call in 49221555 > 49800999 service=7 0 3 4 34 cause=16 data=-
        leg 2 visit=- agent=100001 3 3 4 34 1/16
        """,
        """
        - 100001 0 49221555 49800999 - - - 10:00:03 10:00:03 10:00:04 10:00:34 30 1 16 -
        """,
    ),
    Script(
        "missed: two agents do not answer, then the caller gives up",
        """
        0 CallStart mode=0 hotline=7 group=40 from=0015552243 to=0800999
        1 Alerting agent=100001 group=40
        16 Timeout agent=100001 group=40
        17 Alerting agent=100002 group=40
        25 CallEnd tried=1 connected=0
        """,
        """
        call in 15552243 > 49800999 service=7 0 1 - 25 cause=16 data=-
        visit 1 group=40 0
        leg 2 visit=1 agent=100001 1 1 - 16 2/19
        leg 4 visit=1 agent=100002 17 17 - 25 2/16
        """,
        """
        - 100001 0 15552243 49800999 - - - 10:00:01 10:00:01 - 10:00:16 -1 2 19 -
        - 100002 0 15552243 49800999 - - - 10:00:17 10:00:17 - 10:00:25 -1 2 16 -
        """,
    ),
    Script(
        "busy agent, then another one answers",
        """
        0 CallStart mode=0 hotline=7 from=+15552243 to=0800999
        1 Alerting agent=100001
        2 Busy agent=100001
        3 Alerting agent=100002
        5 Connected agent=100002
        20 CallEnd connected=1 tried=1
        """,
        """
        call in 15552243 > 49800999 service=7 0 1 5 20 cause=16 data=-
        leg 2 visit=- agent=100001 1 1 - 2 3/17
        leg 4 visit=- agent=100002 3 3 5 20 1/16
        """,
        """
        - 100001 0 15552243 49800999 - - - 10:00:01 10:00:01 - 10:00:02 -1 3 17 -
        - 100002 0 15552243 49800999 - - - 10:00:03 10:00:03 10:00:05 10:00:20 15 1 16 -
        """,
    ),
    Script(
        "refused: all agents busy and the waiting queue full",
        """
        0 CallStart mode=0 hotline=7 from=0221555 to=0800999
        1 Rejected
        2 CallEnd tried=0 connected=0
        """,
        """
        call in 49221555 > 49800999 service=7 0 - - 2 cause=17 data=-
        """,
        """
        - - 0 49221555 49800999 - - - 10:00:00 - - 10:00:02 -1 0 17 -
        """,
    ),
    Script(
        "refused while an agent was alerted",
        """
        0 CallStart mode=0 hotline=7 from=0221555 to=0800999
        1 Alerting agent=100001
        3 Rejected agent=100001
        4 CallEnd tried=1 connected=0
        """,
        """
        call in 49221555 > 49800999 service=7 0 1 - 4 cause=17 data=-
        leg 2 visit=- agent=100001 1 1 - 3 7/17
        """,
        """
        - 100001 0 49221555 49800999 - - - 10:00:01 10:00:01 - 10:00:03 -1 7 17 -
        """,
    ),
    Script(
        "an error of the protocol",
        """
        0 CallStart mode=0 hotline=7 from=0221555 to=0800999
        1 Alerting agent=100001
        1.5 BadCall
        2 CallEnd tried=1 connected=0
        """,
        """
        call in 49221555 > 49800999 service=7 0 1 - 2 cause=111 data=-
        leg 2 visit=- agent=100001 1 1 - 1.5 7/111
        """,
        """
        - 100001 0 49221555 49800999 - - - 10:00:01 10:00:01 - 10:00:01 -1 7 111 -
        """,
    ),
    Script(
        "queued, and given up there",
        """
        0 CallStart mode=0 hotline=7 from=0221555 to=0800999
        1 Announcement announcement=3
        10 WaitingQueue group=40
        90 CallEnd tried=0 connected=0
        """,
        """
        call in 49221555 > 49800999 service=7 0 - - 90 cause=16 data=-
        visit 3 group=40 10
        """,
        """
        - - 0 49221555 49800999 - - - 10:00:00 - - 10:01:30 -1 0 16 -
        """,
    ),
    Script(
        "queued in one group, answered in another",
        """
        0 CallStart mode=0 hotline=7 from=0221555 to=0800999
        1 WaitingQueue group=40
        30 WaitingQueue group=41
        31 Alerting group=41 agent=100005
        33 Connected group=41 agent=100005
        63 CallEnd tried=1 connected=1
        """,
        """
        call in 49221555 > 49800999 service=7 0 31 33 63 cause=16 data=-
        visit 2 group=40 1
        visit 3 group=41 30
        leg 4 visit=3 agent=100005 31 31 33 63 1/16
        """,
        """
        - - 0 49221555 49800999 - - - 10:00:00 - - 10:01:03 -1 0 16 -
        - 100005 0 49221555 49800999 - - - 10:00:31 10:00:31 10:00:33 10:01:03 30 1 16 -
        """,
    ),
    Script(
        "transferred to another agent",
        """
        0 CallStart mode=0 hotline=7 group=40 from=0221555 to=0800999
        1 Alerting agent=100001 group=40
        4 Connected agent=100001 group=40
        34 ForwardAgent agent=100001 group=40
        35 Alerting agent=100002 group=40
        38 Connected agent=100002 group=40
        98 CallEnd tried=1 connected=1
        """,
        """
        call in 49221555 > 49800999 service=7 0 1 4 98 cause=16 data=-
        visit 1 group=40 0
        leg 2 visit=1 agent=100001 1 1 4 34 1/16
        leg 5 visit=1 agent=100002 35 35 38 98 1/16
        """,
        """
        - 100001 0 49221555 49800999 - - - 10:00:01 10:00:01 10:00:04 10:00:34 30 1 16 -
        - 100002 0 49221555 49800999 - - - 10:00:35 10:00:35 10:00:38 10:01:38 60 1 16 -
        """,
    ),
    Script(
        "transferred to another group, and back to the first",
        """
        0 CallStart mode=0 hotline=7 group=40 from=0221555 to=0800999
        1 Connected agent=100001 group=40
        11 ForwardGroup agent=100001 group=41
        12 Alerting agent=100002 group=41
        14 Connected agent=100002 group=41
        24 ForwardGroup agent=100002 group=40
        25 Alerting agent=100001 group=40
        26 Connected agent=100001 group=40
        36 CallEnd connected=1 tried=1
        """,
        """
        call in 49221555 > 49800999 service=7 0 12 1 36 cause=16 data=-
        visit 1 group=40 0
        visit 3 group=41 11
        visit 6 group=40 24
        leg 2 visit=1 agent=100001 1 - 1 11 1/16
        leg 4 visit=3 agent=100002 12 12 14 24 1/16
        leg 7 visit=6 agent=100001 25 25 26 36 1/16
        """,
        """
        - 100001 0 49221555 49800999 - - - 10:00:01 - 10:00:01 10:00:11 10 1 16 -
        - 100002 0 49221555 49800999 - - - 10:00:12 10:00:12 10:00:14 10:00:24 10 1 16 -
        - 100001 0 49221555 49800999 - - - 10:00:25 10:00:25 10:00:26 10:00:36 10 1 16 -
        """,
    ),
    Script(
        "transferred to another hotline",
        """
        0 CallStart mode=0 hotline=7 group=40 from=0221555 to=0800999
        1 Connected agent=100001 hotline=7 group=40
        11 ForwardHotline agent=100001 hotline=8
        12 Alerting agent=100002 hotline=8 group=41
        13 Connected agent=100002 hotline=8 group=41
        23 CallEnd connected=1 tried=1
        """,
        """
        call in 49221555 > 49800999 service=7 0 12 1 23 cause=16 data=-
        visit 1 group=40 0
        visit 4 group=41 12
        leg 2 visit=1 agent=100001 1 - 1 11 1/16
        leg 4 visit=4 agent=100002 12 12 13 23 1/16
        """,
        """
        - 100001 0 49221555 49800999 - - - 10:00:01 - 10:00:01 10:00:11 10 1 16 -
        - 100002 0 49221555 49800999 - - - 10:00:12 10:00:12 10:00:13 10:00:23 10 1 16 -
        """,
    ),
    Script(
        "transferred to an external number",
        """
        0 CallStart mode=0 hotline=7 group=40 from=0221555 to=0800999
        1 Alerting agent=100001
        2 Connected agent=100001
        12 ForwardNumber agent=100001 target_number=0301234
        52 CallEnd tried=1 connected=1
        """,
        """
        call in 49221555 > 49800999 service=7 0 1 2 52 cause=16 data=-
        visit 1 group=40 0
        leg 2 visit=1 agent=100001 1 1 2 12 1/16
        leg 4 visit=1 agent=- 12 - 12 52 1/16
        """,
        """
        - 100001 0 49221555 49800999 - - - 10:00:01 10:00:01 10:00:02 10:00:12 10 1 16 -
        - - 0 49221555 49800999 - - - 10:00:12 - 10:00:12 10:00:52 40 1 16 -
        """,
    ),
    Script(
        "to a mailbox, without an agent",
        """
        0 CallStart mode=0 hotline=7 from=0221555 to=0800999
        1 Announcement announcement=3
        5 Mailbox mailboxid=2
        45 CallEnd tried=0 connected=0
        """,
        """
        call in 49221555 > 49800999 service=7 0 - - 45 cause=16 data=-
        """,
        """
        - - 0 49221555 49800999 - - - 10:00:00 - - 10:00:45 -1 0 16 -
        """,
    ),
    Script(
        "held and resumed, with an eventtype that nobody knows",
        """
        0 CallStart mode=0 hotline=7 from=0221555 to=0800999
        1 Alerting agent=100001
        2 Connected agent=100001
        5 Holdstart agent=100001
        9 Holdstop agent=100001
        10 Whisper agent=100001
        22 CallEnd tried=1 connected=1
        """,
        """
        call in 49221555 > 49800999 service=7 0 1 2 22 cause=16 data=-
        leg 2 visit=- agent=100001 1 1 2 22 1/16
        """,
        """
        - 100001 0 49221555 49800999 - - - 10:00:01 10:00:01 10:00:02 10:00:22 20 1 16 -
        """,
    ),
    Script(
        "a hidden number",
        """
        0 CallStart mode=0 hotline=7 from=02212601xxx to=0800999
        1 Connected agent=100001 from=02212601XXX
        11 CallEnd connected=1 tried=1
        """,
        """
        call in - > 49800999 service=7 0 - 1 11 cause=16 data=-
        leg 2 visit=- agent=100001 1 - 1 11 1/16
        """,
        """
        - 100001 0 - 49800999 - - - 10:00:01 - 10:00:01 10:00:11 10 1 16 -
        """,
    ),
    Script(
        "the Salesforce id comes with agentstate, names too",
        """
        0 CallStart mode=0 hotline=7 group=40 from=0221555 to=0800999
        1 Alerting agent=100001 group=40
        1.2 state group=Support groupid=40 requesttext="see 0D5D0000000XZoHKAW, please"
        2 Connected agent=100001 group=40
        12 CallEnd connected=1 tried=1
        """,
        """
        call in 49221555 > 49800999 service=7 0 1 2 12 cause=16 data=0D5D0000000XZoHKAW
        visit 1 group=40 0
        leg 2 visit=1 agent=100001 1 1 2 12 1/16
        """,
        """
        0D5D0000000XZoHKAW 100001 0 49221555 49800999 - Support Support 10:00:01 10:00:01 10:00:02 10:00:12 10 1 16 -
        """,
    ),
]
"""Ends, transfers, and what only the call's own row has."""
