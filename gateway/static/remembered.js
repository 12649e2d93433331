/**
 * The list of files this browser knows, kept in localStorage.
 *
 * Only what finds a file again is kept; its state is always asked from the server.
 * A browser that keeps nothing has an empty list, and everything else works.
 */

const KEY = "reelready.files";
const MOST = 50;

/** Newest first: [{id, name, size, token, stopped?, problem?}]. */
export function all() {
  try {
    const list = JSON.parse(localStorage.getItem(KEY) ?? "[]");
    return Array.isArray(list) ? list.filter((entry) => typeof entry?.id === "string") : [];
  } catch {
    return [];
  }
}

/** Add an entry on top, or change the one with its id. */
export function keep(entry) {
  const list = all();
  const index = list.findIndex(({ id }) => id === entry.id);
  if (index < 0) list.unshift(entry);
  else list[index] = { ...list[index], ...entry };
  write(list.slice(0, MOST));
}

export function forget(id) {
  write(all().filter((entry) => entry.id !== id));
}

function write(list) {
  try {
    localStorage.setItem(KEY, JSON.stringify(list));
  } catch {
    // Full or forbidden: the rows on the page are not affected.
  }
}
