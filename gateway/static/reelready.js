/**
 * Reelready in the browser: each step of a file, and the moment it is ready.
 *
 * An event is the whole state of the file, so only the newest seq counts,
 * whichever road brought it: EventSource, or long-poll where streams go mute.
 *
 *     import { ready } from "/static/reelready.js";
 *     const file = await ready(watch.events_url, watch);   // watch: from POST /v1/files
 *     video.src = file.playback.hls_url;
 */

/** May be changed before the first watch. */
export const tuning = {
  heartbeatMs: 15_000,      // what the server promises; 2.5 of them without a word is mute
  backoffMs: 1_000,         // doubles up to 30 times this, half of it random
  streamAgainMs: 300_000,   // how long to long-poll before a stream is tried again
  turnMs: 2_000,            // between two reads of a file that found no free connection
  maxStreams: 4,            // of the 6 connections HTTP/1.1 leaves all tabs of an origin
};

/** The gateway said 401, 403, 404 or 410; asking again cannot help. */
export class RefusedError extends Error {
  constructor(status, problem) {
    super(problem?.title ?? `refused: ${status}`);
    this.status = status;
    this.problem = problem;
  }
}

/** `file` ended as failed, canceled or expired. */
export class NotPlayableError extends Error {
  constructor(file) {
    super(file.error?.message ?? file.status);
    this.file = file;
  }
}

/** Resolves with the FILE once playable; rejects with NotPlayableError, or as `watch`. */
export async function ready(eventsUrl, options) {
  const file = await watch(eventsUrl, options);
  if (file.status !== "playable") throw new NotPlayableError(file);
  return file;
}

/**
 * Follow one file to its end; resolves with its final FILE.
 *
 * token         watch token; `after` the seq you already have (0: tell me everything)
 * onState       called with each newer FILE, never with an older one; only after the
 *               server declares the cursor unknown may seq step back
 * onConnection  called with connecting | live | polling | offline | done
 * signal        AbortSignal that ends the watch; rejects with its reason
 *
 * Rejects with RefusedError.
 */
export function watch(eventsUrl, options = {}) {
  return new Watch(eventsUrl, options).run();
}

const pagePool = new Set();

/** One of `maxStreams` waiting connections, shared by all tabs; null when none is free. */
async function takeSlot() {
  for (let i = 0; i < tuning.maxStreams; i += 1) {
    const release = navigator.locks ? await lockSlot(`reelready-${i}`) : pageSlot(i);
    if (release) return release;
  }
  return null;
}

function lockSlot(name) {
  return new Promise((resolve) => {
    const hold = (lock) => (lock ? new Promise(resolve) : resolve(null));
    navigator.locks
      .request(name, { ifAvailable: true }, (lock) => (lock
        ? new Promise((release) => { resolve(release); })
        : hold(null)))
      .catch(() => resolve(null));
  });
}
