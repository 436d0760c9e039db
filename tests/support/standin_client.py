"""A client of the Salesforce stand-in that does everything right unless told otherwise."""

import json
from typing import Any

import aiohttp

from daemon.demo import grants
from daemon.demo.standin import CALLBACK_PATH, TOKEN_PATH, WRITE_PATH, StandIn

LINE: dict[str, Any] = {
    "SalesForceID": "0059E000002GhnoQAC",
    "jtelStatisticsPartAID": 1201,
    "AgentUID": "agent.y",
    "bOutbound": 0,
    "CallerID": "493023125017",
    "ServiceNumber": "4930231250100",
    "ServiceName": "Störungsannahme",
    "AcdAgentGroupsName": "ACD Group 2",
    "AcdConfigurationGroupsName": "ACD Group 2",
    "dtCallStart": "2026-11-20T08:01:20",
    "dtCallAlert": "2026-11-20T08:01:20",
    "dtCallConnect": "2026-11-20T08:01:26",
    "dtCallEnd": "2026-11-20T08:03:26",
    "nDuration": 119,
    "CONNRES": 1,
    "Cause": 16,
    "TransactionCodeExportKey": "AAA",
}
LINE_KEY = "1201-2202-3203-4201"

CALLBACK: dict[str, Any] = {
    "Caller": "493023125017",
    "CallbackNumber": "493023125018",
    "ServiceNumbersNumber": "4930231250100",
    "ServiceNumbersName": "Störungsannahme",
    "AcdGroupsID": 2,
    "AcdGroupsName": "ACD Group 2",
    "AcdGroupsForeignSystemID": "SERVICE_B2B",
    "dtCallStart": "2026-11-20T08:01:20",
    "dtCallEnd": "2026-11-20T08:03:26",
    "ID": 73001,
    "AcdEventsID": 73001,
    "Subject": "Rückruf",
    "Body": "Bitte am Nachmittag.\nDanke.",
    "CreatingUsersID": 3,
    "CreatingUsersUID": "agent.y",
    "CreatingUsersNickName": "Yvonne",
    "TargetUsersID": 4,
    "TargetUsersUID": "agent.z",
    "TargetUsersNickName": "Zoe",
    "SalesforceId": "0059E000002GhnoQAC",
    "SalesforceQueryResult": 1,
}
CALLBACK_KEY = "callback-73001"

LANE = "0059E000002Ghno"
"""The record of both."""


class Salesforce:
    """Logs in and sends records to both classes."""

    def __init__(self, session: aiohttp.ClientSession, url: str, standin: StandIn) -> None:
        self.session = session
        self.url = url
        self.standin = standin
        self.bearer = ""

    async def token(self, **form: str) -> tuple[int, Any]:
        async with self.session.post(self.url + TOKEN_PATH, data=form) as answer:
            return answer.status, await answer.json()

    async def log_in(self) -> None:
        status, body = await self.token(
            grant_type="client_credentials",
            client_id=grants.CLIENT_ID,
            client_secret=grants.CLIENT_SECRET,
        )
        assert status == 200
        self.bearer = body["access_token"]

    async def write(
        self, *, key: str = LINE_KEY, body: bytes | None = None, headers: Any = None, **fields: Any
    ) -> tuple[int, str]:
        data = json.dumps(LINE | fields) if body is None else body
        return await self.post(WRITE_PATH, key, data, headers)

    async def call_back(
        self, *, number: int = 73001, body: bytes | None = None, headers: Any = None, **fields: Any
    ) -> tuple[int, str]:
        """Send the callback request of this number."""
        record = CALLBACK | {"ID": number, "AcdEventsID": number} | fields
        data = json.dumps(record) if body is None else body
        return await self.post(CALLBACK_PATH, f"callback-{number}", data, headers)

    async def post(
        self, path: str, key: str, body: bytes | str, headers: dict[str, str] | None
    ) -> tuple[int, str]:
        sent = {
            "Content-Type": "application/json",
            "Accept": "application/json",
            "User-Agent": "callstatsd/0.1.0",
            "Authorization": f"Bearer {self.bearer}",
            "Idempotency-Key": key,
        } | (headers or {})
        async with self.session.post(self.url + path, data=body, headers=sent) as answer:
            return answer.status, await answer.text()
