"""The tests, and the invariants that they hold the daemon to.

1. Taken once: every line of a ready call, inside LOOKBACK or a backfill's window, gets into the
   ledger exactly once. Attacked by `test_without_gaps`, `test_sweeper`, `test_standby`.
2. Sent until settled: every line of the ledger is sent until it has a final outcome, and never
   after it unless a person asked. `test_life_of_lines`, `test_databases`, `test_badday`.
3. Alone: two requests for one record never overlap while their sender holds the lock; after a kill
   or a lost lock at most those in flight overlap with their repeats. `test_life_of_lines`,
   `test_one_sender`, `test_lanes`.
4. In order: lines of one record are first sent in order, live ones and a backfill's each.
   `test_life_of_lines`, `test_lanes`.
5. Few repeats: after a crash at any point at most CONCURRENCY + 64 lines are sent again, under the
   same key. `test_kill_matrix`, `test_chaos`, `test_shutdown`.
6. The watermark never passes a line that is not in the ledger, except rows that became visible
   later, and those a sweep brings in. `test_without_gaps`, `test_kill_matrix`.

`audit` compares source, ledger and what Salesforce received line by line, after each attack.
"""
