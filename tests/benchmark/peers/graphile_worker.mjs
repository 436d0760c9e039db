// Posts every job with undici, until none is left. Prints "ready" when it may be told to begin, by a
// line on its stdin, and "done" at its end.

import { once } from "node:events";

import { Logger, runMigrations, runOnce } from "graphile-worker";
import { Pool } from "undici";

const [connectionString, url, connections, token, userAgent] = process.argv.slice(2);
const { origin, pathname } = new URL(url);
const pool = new Pool(origin, { connections: Number(connections) });
const headers = {
  accept: "application/json",
  "user-agent": userAgent,
  authorization: `Bearer ${token}`,
  "content-type": "application/json",
};

async function write({ key, body }) {
  const response = await pool.request({
    path: pathname,
    method: "POST",
    headers: { ...headers, "idempotency-key": key },
    body,
  });
  await response.body.dump();
  if (response.statusCode !== 200) {
    throw new Error(`answered ${response.statusCode}`);
  }
}

const errors = new Logger(() => (level, message) => {
  if (level === "error") {
    console.error(message);
  }
});
const preset = {
  worker: {
    connectionString,
    logger: errors,
    concurrentJobs: Number(connections),
    localQueue: { size: 500 },
    completeJobBatchDelay: 0,
    failJobBatchDelay: 0,
  },
};

await runMigrations({ preset });
console.log("ready");
await once(process.stdin, "data");
await runOnce({ preset, taskList: { write } });
console.log("done");
process.stdin.destroy();
await pool.close();
