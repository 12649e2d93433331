/**
 * The list: one plain value per file, its view, and what the server says about it.
 *
 * Whatever happens changes the value and shows the row again; nothing else draws.
 */

import { RefusedError, watch } from "./reelready.js";
import { forget } from "./remembered.js";
import { createView, detailOf, headlineOf } from "./row.js";
import { isOver, progressOf, stageOf } from "./steps.js";
import { t } from "./strings.js";

const NEWS_KEPT = 6;
const TELL_MS = 250; // steps that come in one go are said as one
const FLICKER_MS = 1_500; // a connection that is back within this was never gone

const list = document.getElementById("rows");
const empty = document.getElementById("empty");
const newsBox = document.getElementById("news");

export const rows = new Set();

/** `act(row, action, button)` is called for the row's buttons, and to play by itself. */
export function addRow(values, act, place = (element) => list.prepend(element)) {
  const row = {
    id: null,
    token: null,
    name: "",
    size: null,
    source: null, // the File, while this page has it
    file: null, // the newest FILE of the server
    events: [], // all of them, oldest first
    sending: null, // {done, total, sent}
    problem: null, // why it could not be sent
    stopped: false, // the upload was canceled here
    lost: null, // why the server will not tell
    connection: null,
    restored: false, // from an earlier visit, or somebody else's
    told: null, // what the live region said last
    leave: new AbortController(), // ends the following
    act: (action, button) => act(row, action, button),
    ...values,
  };
  row.view = createView(row.act);
  rows.add(row);
  place(row.view.element);
  show(row);
  empty.hidden = true;
  return row;
}

/** Take a row off the page and out of memory; its file at the server stays. */
export function dropRow(row) {
  row.leave.abort();
  row.stopSending?.abort();
  rows.delete(row);
  row.view.element.remove();
  if (row.id) forget(row.id);
  empty.hidden = rows.size > 0;
}

export function show(row) {
  row.view.render(row);
  row.telling ??= setTimeout(() => tell(row), TELL_MS);
}

/** Say each change of step, and each quarter of a long one. */
function tell(row) {
  row.telling = undefined;
  const stage = stageOf(row);
  const bar = progressOf(row, stage);
  const quarter = bar?.max ? Math.floor((4 * bar.value) / bar.max) : 0;
  const before = row.told;
  if (before?.stage === stage && before.quarter === quarter) return;
  row.told = { stage, quarter };
  if (stage === "queued") return;
  // What an earlier visit left is read on demand, not all at once on arrival.
  if (row.restored && (!before || before.stage === "connecting")) return;
  const parts = [headlineOf(row, stage)];
  if (before?.stage === stage) parts.push(t("percent", { n: 25 * quarter }));
  else if (isOver(stage)) parts.push(detailOf(row, stage));
  news(parts.filter(Boolean).join(". "), row.name);
}

/** Let a screen reader say something when it has a moment. */
export function news(text, name = "") {
  const line = document.createElement("p");
  const who = document.createElement("bdi");
  who.textContent = name;
  line.append(who, name ? ": " : "", text);
  newsBox.append(line);
  while (newsBox.children.length > NEWS_KEPT) newsBox.firstElementChild.remove();
}

/** Take in a FILE; its seq is newer than all before, or the server began anew. */
export function accept(row, file) {
  const turned = file.status === "playable" && row.file?.status !== "playable";
  row.events = [...row.events.filter(({ seq }) => seq < file.seq), file];
  row.file = file;
  row.name = file.name;
  row.size = file.size;
  show(row);
  if (turned && !row.restored) row.act("play");
}

export function eventsUrl(row) {
  return new URL(`/v1/files/${encodeURIComponent(row.id)}/events`, location.href).href;
}

/** Follow the file from seq `after` to its end, or until the row leaves. */
export async function follow(row, after) {
  try {
    await watch(eventsUrl(row), {
      token: row.token,
      after,
      signal: row.leave.signal,
      onState: (file) => accept(row, file),
      onConnection: (connection) => connect(row, connection),
    });
  } catch (error) {
    if (row.leave.signal.aborted) return;
    if (!(error instanceof RefusedError)) throw error;
    row.lost = [404, 410].includes(error.status) ? "lost_404" : "lost_401";
    show(row);
  }
}

function connect(row, connection) {
  clearTimeout(row.connecting);
  const apply = () => {
    row.connection = connection;
    show(row);
  };
  if (["live", "polling", "busy"].includes(connection)) {
    row.onFollowed?.();
    apply();
  } else row.connecting = setTimeout(apply, FLICKER_MS);
}
