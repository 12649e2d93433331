/**
 * Which language the page speaks, and how texts, sizes and times are said in it.
 *
 * No sentence is put together from parts; a value only fills a gap.
 */

const LANGUAGES = ["en", "ko"];
const KEY = "reelready.language";

let language;
let locale;
let words;
await setLanguage(remembered() ?? (/^ko\b/.test(navigator.language) ? "ko" : "en"));

function remembered() {
  try {
    const value = localStorage.getItem(KEY);
    return LANGUAGES.includes(value) ? value : null;
  } catch {
    return null;
  }
}

export function currentLanguage() {
  return language;
}

/** When of today, the way this browser's owner writes it. */
export function clock(date) {
  return new Intl.DateTimeFormat(locale, { timeStyle: "medium" }).format(date);
}

/** Speak "en" or "ko" from now on; only the words in use are ever loaded. */
export async function setLanguage(value) {
  words = (await import(`./${value}.js`)).default;
  language = value;
  locale = navigator.languages.find((tag) => tag.startsWith(value)) ?? value;
}

/** Speak it the next time, too. */
export function rememberLanguage() {
  try {
    localStorage.setItem(KEY, language);
  } catch {
    // A browser that keeps nothing still switches for now.
  }
}

/** The text `key` with its `{gaps}` filled. */
export function t(key, gaps = {}) {
  return words[key].replace(/\{(\w+)\}/g, (_, gap) => gaps[gap] ?? "");
}

export function knows(key) {
  return Object.hasOwn(words, key);
}

export function number(value, digits = 0) {
  return new Intl.NumberFormat(locale, { maximumFractionDigits: digits }).format(value);
}

/** Decimal units, as file managers and S3 bills count. */
export function bytes(value) {
  const units = ["B", "KB", "MB", "GB", "TB"];
  let power = 0;
  for (; value >= 999.5 && power < 4; power += 1) value /= 1000;
  return `${number(value, power > 0 && value < 100 ? 1 : 0)} ${units[power]}`;
}

/** `running` leaves out what would flicker in a clock that is watched. */
export function duration(ms, running = false) {
  const s = ms / 1000;
  if (s < 1 && !running) return t("ms", { n: number(ms) });
  if (s < 60) return t("s", { n: running ? number(Math.floor(s)) : number(s, s < 10 ? 1 : 0) });
  const whole = Math.floor(s);
  if (whole < 3600) return t("min", { m: Math.floor(whole / 60), s: whole % 60 });
  return t("h", { h: Math.floor(whole / 3600), m: Math.floor((whole % 3600) / 60) });
}
