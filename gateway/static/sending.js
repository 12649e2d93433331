/**
 * From a chosen file to its bytes in the storage: a few at a time, each followed first.
 */

import { keep } from "./remembered.js";
import { accept, addRow, follow, rows, show } from "./rows.js";
import { apiKey, dropApiKey, settings } from "./settings.js";
import { announce, Problem, send } from "./upload.js";

const AT_ONCE = 3;
const FOLLOW_MS = 2_000; // an upload does not wait longer for its stream; the cursor holds

const waiting = [];
let sending = 0;

/** Make a row for a File and upload it when it is its turn. */
export function enqueue(source, act, place) {
  const row = addRow({ name: source.name, size: source.size, source }, act, place);
  if (source.size === 0) fail(row, new Problem("empty"));
  else if (source.size > settings.max_upload_bytes) fail(row, new Problem("too_large"));
  else waiting.push(row);
  sendNext();
  return row;
}

/** Stop an upload that waits or runs. */
export function cancel(row) {
  row.stopped = true;
  row.leave.abort();
  row.stopSending?.abort();
  if (waiting.includes(row)) waiting.splice(waiting.indexOf(row), 1);
  if (row.id) keep({ id: row.id, stopped: true });
  show(row);
}

async function sendNext() {
  if (sending >= AT_ONCE || waiting.length === 0) return;
  const row = waiting.shift();
  sending += 1;
  try {
    sendNext();
    await sendOne(row);
  } catch (error) {
    if (error instanceof Problem) fail(row, error);
    else if (!row.stopped && rows.has(row)) throw error;
  } finally {
    sending -= 1;
    sendNext();
  }
}

/** Following begins before the first byte leaves, so no step can be missed. */
async function sendOne(row) {
  const made = await announce(row.source, apiKey());
  if (row.stopped || !rows.has(row)) return;
  row.id = made.file.id;
  row.token = made.watch.token;
  row.stopSending = new AbortController();
  row.sending = { done: 0, total: row.size, sent: false };
  keep({ id: row.id, name: row.name, size: row.size, token: row.token });
  accept(row, made.file);
  await followed(row, made.watch.after);
  if (row.stopped || !rows.has(row)) return;
  await send(row.source, made.upload, {
    signal: row.stopSending.signal,
    onProgress(done) {
      row.sending.done = Math.min(done, row.size);
      show(row);
    },
  });
  row.sending.sent = true;
  show(row);
}

function followed(row, after) {
  return new Promise((resolve) => {
    row.onFollowed = resolve;
    setTimeout(resolve, FOLLOW_MS);
    follow(row, after);
  });
}

function fail(row, { key, field, detail }) {
  row.problem = { key, field, detail, limit: settings.max_upload_bytes };
  if (key === "unauthorized") dropApiKey();
  // Every byte may have arrived although nobody said so; then the server will tell.
  const arrived = key === "upload_used" || row.sending?.done >= row.size;
  if (!arrived) row.leave.abort();
  if (row.id) keep({ id: row.id, problem: row.problem });
  show(row);
}
