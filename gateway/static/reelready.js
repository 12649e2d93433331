/**
 * Reelready in the browser: each step of a file, and the moment it is ready.
 *
 * An event is the whole state, so only the newest seq counts, whichever road
 * brought it: EventSource, or long-poll where streams go mute.
 *
 *     const file = await ready(watch.events_url, watch); // watch: from POST /v1/files
 */

/** May be changed before the first watch. */
export const tuning = {
  heartbeatMs: 15_000, // as the gateway's; 2.5 of them without a word is mute
  backoffMs: 1_000, // doubles up to 30 times this; half is random
  busyMs: 10_000, // between two questions of who may not wait; half is random
  streamAgainMs: 300_000, // of long-polling before a stream is tried again
  waitS: 25, // of each long-poll
  turnMs: 2_000, // for up to 8 files without a connection to be read once
  maxStreams: 4, // of the 6 that HTTP/1.1 leaves all tabs together
};

const MUTE_RESTARTS = 2;
const FOR_GOOD = [401, 403, 404, 410];
const OURS = /^urn:reelready:problem:/;

/** The gateway will not tell; asking again cannot help. */
export class RefusedError extends Error {
  constructor(status, problem) {
    super(problem?.title ?? `refused: ${status}`);
    Object.assign(this, { status, problem });
  }
}

/** The file ended as failed, canceled or expired. */
export class NotPlayableError extends Error {
  constructor(file) {
    super(file.error?.message ?? file.status);
    this.file = file;
  }
}

/** As `watch`, but a file that ended otherwise than playable is a NotPlayableError. */
export async function ready(eventsUrl, options) {
  const file = await watch(eventsUrl, options);
  if (file.status !== "playable") throw new NotPlayableError(file);
  return file;
}

/**
 * Follow one file to its end; resolves with its final FILE, rejects with RefusedError.
 *
 * token         watch token
 * after         the seq you already have; 0 asks for everything still kept
 * onState       gets each newer FILE, never an older one unless the server says `reset`
 * onConnection  gets connecting | live | polling | busy | offline | done
 * signal        AbortSignal; the watch rejects with its reason
 */
export function watch(eventsUrl, options = {}) {
  return new Watch(eventsUrl, options).run();
}

class Watch {
  #url;
  #options;
  #seq;
  #file;
  #said;
  #mutes = 0;
  #failures = 0;
  #pollUntil = 0;
  #heard = false; // a gateway, over any connection
  #final = false;
  #rouse = () => {}; // cuts the present wait short; harmless after it

  constructor(eventsUrl, options) {
    this.#url = new URL(eventsUrl, location.href);
    this.#options = options;
    this.#seq = options.after ?? -1;
  }

  async run() {
    const { signal } = this.#options;
    const listeners = new AbortController();
    const on = (target, kind, act) =>
      target?.addEventListener(kind, act, { signal: listeners.signal });
    const wake = () => document.hidden || this.#rouse("woke");
    on(window, "online", wake);
    on(window, "offline", () => this.#say("offline"));
    on(document, "visibilitychange", wake);
    on(signal, "abort", () => this.#rouse("aborted"));
    try {
      while (!this.#final) {
        signal?.throwIfAborted();
        await this.#round();
      }
      this.#say("done");
      return this.#file;
    } finally {
      listeners.abort();
    }
  }

  async #round() {
    const release = await takeSlot();
    try {
      this.#options.signal?.throwIfAborted();
      if (release && Date.now() >= this.#pollUntil) await this.#streamOnce();
      else if (await this.#poll(release ? tuning.waitS : 0)) this.#say("polling");
      else if (release && (await this.#poll(0))) await this.#comeLater();
      else await this.#backOff();
    } finally {
      release?.();
    }
    if (release) waiting.values().next().value?.#rouse();
    else await this.#waitForTurn();
  }

  async #waitForTurn() {
    waiting.add(this);
    await this.#pause(tuning.turnMs * Math.ceil(waiting.size / 8));
    waiting.delete(this);
  }

  async #streamOnce() {
    const { how, heard } = await this.#stream();
    if (this.#final || how === "aborted") return;
    // A closed EventSource hides its status, a mute one everything.
    const answered = await this.#poll(0);
    if (heard) this.#mutes = this.#failures = 0;
    if (how === "refused" && answered) return this.#comeLater();
    if (!heard && answered && how !== "woke") this.#mutes += 1;
    if (this.#mutes > MUTE_RESTARTS) {
      this.#mutes = MUTE_RESTARTS;
      this.#pollUntil = Date.now() + tuning.streamAgainMs;
      this.#say("polling");
    } else if (!answered || how === "closed") {
      await this.#backOff();
    }
  }

  #stream() {
    return new Promise((resolve) => {
      if (this.#said !== "busy") this.#say("connecting");
      const muteMs = 2.5 * tuning.heartbeatMs;
      const source = new EventSource(this.#at("token", this.#options.token));
      let heard = false;
      let doubted = this.#mutes > 0; // open before, and not a word came
      let last;
      let timer;
      const end = (how) => {
        clearTimeout(timer);
        source.close();
        resolve({ how, heard });
      };
      const expect = () => {
        clearTimeout(timer);
        last = Date.now();
        // A timer far too late slept with the machine; the stream was not mute.
        timer = setTimeout(() => end(Date.now() - last > 2 * muteMs ? "woke" : "mute"), muteMs);
      };
      const on = (kind, act = () => {}) =>
        source.addEventListener(kind, ({ data }) => {
          this.#heard = true;
          if (kind === "bye" && JSON.parse(data).reason === "refused") return end("refused");
          heard = true;
          doubted = false;
          this.#say("live");
          expect();
          act(data);
        });
      this.#rouse = (how) => {
        const doubt = this.#said === "offline" || Date.now() - last > muteMs / 2;
        if (doubt || how !== "woke") end(how);
      };
      source.onopen = () => {
        if (doubted) return;
        doubted = true;
        expect();
        // A refusal comes right behind the head.
        setTimeout(() => source.readyState === EventSource.OPEN && this.#say("live"), 100);
      };
      source.onerror = () => {
        if (source.readyState === EventSource.CLOSED) end("closed");
        else this.#say(navigator.onLine ? "connecting" : "offline");
      };
      on("message", (data) => this.#take(JSON.parse(data)));
      on("hb");
      on("reset", () => (this.#seq = -1));
      on("bye", (data) => {
        if (JSON.parse(data).reason !== "final") return;
        this.#end();
        end("final");
      });
      expect();
    });
  }

  /** Long-poll once; false when nobody sensible answered. */
  async #poll(wait) {
    const { token, signal } = this.#options;
    const late = AbortSignal.timeout((wait + 15) * 1000);
    const response = await fetch(this.#at("wait", wait), {
      headers: token ? { Authorization: `Bearer ${token}` } : {},
      cache: "no-store",
      signal: signal ? AbortSignal.any([late, signal]) : late,
    }).catch(() => null);
    const body = await response?.json().catch(() => null);
    // What stands in front is restarted, too, and says what it likes.
    if (FOR_GOOD.includes(response?.status) && (!this.#heard || OURS.test(body?.type))) {
      throw new RefusedError(response.status, body);
    }
    if (!response?.ok || !Array.isArray(body?.events)) {
      // A failed wait is followed by a question without one.
      if (!wait && !signal?.aborted) this.#say("offline");
      return false;
    }
    this.#heard = true;
    this.#failures = 0;
    if (body.after < this.#seq) this.#seq = -1;
    for (const file of body.events) this.#take(file);
    if (body.final) this.#end();
    return true;
  }

  #take(file) {
    if (file.seq <= this.#seq) return;
    this.#seq = file.seq;
    this.#file = file;
    this.#options.onState?.(file);
  }

  /** An end without a state (the cursor was final already) asks for it. */
  #end() {
    if (this.#file) this.#final = true;
    else this.#seq = -1;
  }

  #say(connection) {
    if (connection === this.#said) return;
    this.#said = connection;
    this.#options.onConnection?.(connection);
  }

  #at(name, value) {
    const url = new URL(this.#url);
    if (this.#seq >= 0) url.searchParams.set("after", this.#seq);
    if (value !== undefined) url.searchParams.set(name, value);
    return url;
  }

  #backOff() {
    return this.#pauseAbout(tuning.backoffMs * Math.min(2 ** this.#failures++, 30));
  }

  /** Whoever may not wait is told when asking, now and then, and not all at once. */
  #comeLater() {
    this.#say("busy");
    return this.#pauseAbout(tuning.busyMs);
  }

  #pauseAbout(ms) {
    return this.#pause(ms * (0.5 + Math.random() / 2));
  }

  #pause(ms) {
    return new Promise((resolve) => {
      if (this.#final || this.#options.signal?.aborted) return resolve();
      setTimeout(resolve, ms);
      this.#rouse = resolve;
    });
  }
}

const waiting = new Set();
const taken = new Set();

/** Take a waiting connection, of those all tabs share; null when none is free. */
async function takeSlot() {
  for (let slot = 0; slot < tuning.maxStreams; slot += 1) {
    const release = await (navigator.locks ? lockSlot : countSlot)(slot);
    if (release) return release;
  }
  return null;
}

function lockSlot(slot) {
  return new Promise((resolve) => {
    const hold = (lock) =>
      lock ? new Promise((release) => resolve(release)) : resolve(null);
    navigator.locks
      .request(`reelready-${slot}`, { ifAvailable: true }, hold)
      .catch(() => resolve(null));
  });
}

/** Insecure contexts have no Web Locks: a tab counts its own. */
function countSlot(slot) {
  if (taken.has(slot)) return null;
  taken.add(slot);
  return () => taken.delete(slot);
}
