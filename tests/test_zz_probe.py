import asyncio, time, os
import pytest
from collections import Counter
from tests.proxy import Mode, proxied
from tests.traffic import traffic
from tests.daemon_process import running
from tests.audit import audit, Break

@pytest.mark.parametrize("how", os.environ.get("HOW","cut refuse stall3 stall9 deaf9").split())
async def test_probe(site, how):
    site.salesforce.work = 0.005
    async with proxied(site.dsn) as (proxy, dsn):
        env = site.settings(ledger_dsn=dsn, retry_max="1", request_timeout="5")
        async with running(env, site.folder) as d, traffic(site.dsn) as t:
            await d.until("line.delivered", 20)
            at = time.monotonic(); wall=time.time()
            if how == "cut": proxy.cut(reset=True)
            elif how == "refuse":
                await proxy.switch(Mode.REFUSE); proxy.cut(reset=False); await asyncio.sleep(3)
            elif how.startswith("stall"):
                await proxy.switch(Mode.STALL); await asyncio.sleep(float(how[5:]))
            elif how.startswith("deaf"):
                await proxy.switch(Mode.DEAF); await asyncio.sleep(float(how[4:]))
            back = time.monotonic()
            await proxy.switch(Mode.PASS)
            before = len(d.seen("line.delivered"))
            while len(d.seen("line.delivered")) == before and time.monotonic()-back < 200:
                await asyncio.sleep(.05)
            print(how, "first delivery after back", time.monotonic()-back)
            await asyncio.sleep(3)
            from datetime import datetime
            for e in d.events:
                ts = datetime.fromisoformat(e["timestamp"]).timestamp() - wall
                if ts > -0.01 and e["event"] not in ("line.delivered","poll.taken","token.refreshed"):
                    print(f"{ts:7.2f}", e["event"], {k:v for k,v in e.items() if k not in("event","timestamp","level","record","call_id","salesforce_id")})
        # finish
        async with running(site.settings(retry_max="1"), site.folder) as d:
            await site.until(delivered=t.ended)
        print(await audit(site, breaks=[Break(at,68), Break(at+6, 68)]))
