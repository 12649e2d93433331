/**
 * What is shown of a file: its events and what this page knows itself, in; plain values, out.
 *
 * The server's word wins: what this page did (canceled, failed to send) counts only
 * while the server still waits for the upload.
 */

const STEPS = ["upload", "uploaded", "converting", "playable"];
const ENDS = ["playable", "failed", "canceled", "expired"];
const PHASES = { probing: "probing", transcoding: "transcoding", uploading: "saving" };

/**
 * Where a row stands, as the key of its words: queued, uploading, sent, saving,
 * stopped, refused, lost, connecting, or a status or phase of the contract.
 */
export function stageOf(row) {
  const { file, sending, problem, stopped, lost } = row;
  const status = file?.status;
  if (status && status !== "awaiting_upload" && status !== "expired") {
    if (lost && !ENDS.includes(status)) return "lost";
    return status === "converting" ? PHASES[file.phase] ?? "converting" : status;
  }
  if (stopped) return "stopped";
  if (problem) return "refused";
  if (status === "expired") return "expired";
  if (lost) return "lost";
  if (sending) return sending.sent ? "sent" : "uploading";
  return file ? "awaiting_upload" : row.restored ? "connecting" : "queued";
}

/** good | bad | busy */
export function toneOf(stage) {
  if (stage === "playable") return "good";
  const bad = ["failed", "canceled", "expired", "stopped", "refused", "lost"];
  return bad.includes(stage) ? "bad" : "busy";
}

/** Whether nothing more will happen to the row by itself. */
export function isOver(stage) {
  return toneOf(stage) !== "busy";
}

/** {value, max} of a bar, {} of one without a known end, or null. */
export function progressOf(row, stage) {
  if (stage === "uploading") return { value: row.sending.done, max: row.sending.total };
  const converting = ["converting", "probing", "transcoding", "saving"].includes(stage);
  if (!converting) return null;
  return row.file.percent === null ? {} : { value: row.file.percent, max: 100 };
}

/**
 * The step rail: [{label, state, ms, running}]; state is done | current | todo | stopped | unknown.
 * `ms` is how long the step took or, when running, takes so far; null when unknown.
 */
export function railOf(row, stage, now) {
  const starts = startsOf(row.events);
  const reached = reachedOf(row, stage);
  const over = isOver(stage);
  const end = over && ENDS.includes(stage) ? starts.end : null;
  return STEPS.map((name, index) => {
    const state = stateOf(index, reached, stage);
    const start = index < 3 ? starts[name] : null;
    const stop = firstKnown(STEPS.slice(index + 1, 3).map((next) => starts[next])) ?? end;
    const running = state === "current" && start !== null && !over;
    return {
      label: index === 3 && ENDS.includes(stage) ? `step_${stage}` : `step_${name}`,
      state,
      running,
      ms: running ? Math.max(0, now - start) : lasted(start, stop),
    };
  });
}

/** Milliseconds from creation to the end, or null. */
export function totalOf(events) {
  const { upload, end } = startsOf(events);
  return lasted(upload, end);
}

function stateOf(index, reached, stage) {
  if (stage === "playable") return "done";
  // What became of the steps that nobody told us of is not known.
  if (stage === "lost") return index < reached ? "done" : "unknown";
  if (index === 3 && ENDS.includes(stage)) return "stopped";
  if (index === reached) return isOver(stage) ? "stopped" : "current";
  return index < reached ? "done" : "todo";
}

/** Index of the last step that began. */
function reachedOf(row, stage) {
  if (stage === "sent") return 1;
  const seen = row.events.map((file) => STEPS.indexOf(file.status));
  return Math.max(0, ...seen.filter((step) => step < 3));
}

/** When each step began, in ms since the epoch; null when nobody said. */
function startsOf(events) {
  const last = events.at(-1);
  const at = (test) => {
    const found = events.find(test);
    return found ? Date.parse(found.updated_at) : null;
  };
  return {
    upload: last ? Date.parse(last.created_at) : null,
    uploaded: at((file) => file.status === "uploaded"),
    converting: at((file) => file.status === "converting" && file.attempt === last.attempt),
    end: last && ENDS.includes(last.status) ? Date.parse(last.updated_at) : null,
  };
}

function firstKnown(values) {
  return values.find((value) => value !== null) ?? null;
}

function lasted(start, stop) {
  return start === null || stop === null ? null : Math.max(0, stop - start);
}
