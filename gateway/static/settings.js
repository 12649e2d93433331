/** What this server tells the page about itself, and the API key of whoever uses it. */

const KEY = "reelready.key";

let aheadMs = 0;

export const settings = { api_key: null, hls_js: null, max_upload_bytes: Infinity };

/** Rejects when the server cannot be reached. */
export async function loadSettings() {
  const response = await fetch("/page.json");
  if (!response.ok) throw new Error(response.statusText);
  Object.assign(settings, await response.json());
  const said = Date.parse(response.headers.get("Date"));
  if (!Number.isNaN(said)) aheadMs = said - Date.now();
}

/** Ms since the epoch by the server's clock, to the second: what its times compare with. */
export function serverNow() {
  return Date.now() + aheadMs;
}

/** The server's own (on a laptop), else what was pasted into this tab, else null. */
export function apiKey() {
  return settings.api_key ?? sessionStorage.getItem(KEY);
}

export function pasteApiKey(value) {
  sessionStorage.setItem(KEY, value);
}

export function dropApiKey() {
  sessionStorage.removeItem(KEY);
}
