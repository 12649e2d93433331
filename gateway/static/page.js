/**
 * The page at `/`: files in, one live row each, remembered in this browser.
 */

import { tuning } from "./reelready.js";
import { all } from "./remembered.js";
import { addRow, dropRow, eventsUrl, follow, news, rows, show } from "./rows.js";
import { cancel, enqueue } from "./sending.js";
import { apiKey, loadSettings, pasteApiKey, settings } from "./settings.js";
import { isOver, stageOf } from "./steps.js";
import { currentLanguage, rememberLanguage, setLanguage, t } from "./strings.js";

const COPIED_MS = 2_000;
const H2_STREAMS = 50;

const $ = (id) => document.getElementById(id);

// What the buttons of a row do.
const ACTIONS = {
  cancel,
  play,
  retry(row) {
    const place = (element) => row.view.element.before(element);
    const again = enqueue(row.source, act, place);
    dropRow(row);
    again.view.focus();
  },
  remove(row) {
    const { element } = row.view;
    const beside = element.nextElementSibling ?? element.previousElementSibling;
    const next = [...rows].find(({ view }) => view.element === beside);
    dropRow(row);
    (next?.view ?? $("files-title")).focus();
    news(t("removed"));
  },
  copy_playback: (row, button) => copy(row.file.playback.hls_url, button),
  copy_curl: (row, button) => copy(curlFor(row), button),
  copy_watch(row, button) {
    const query = new URLSearchParams({ file: row.id, token: row.token });
    copy(new URL(`/?${query}`, location.href).href, button);
  },
};

function act(row, action, button) {
  return ACTIONS[action](row, button);
}

/** Show the player; a person who asked for it (`button`) also gets it started. */
async function play(row, button) {
  const { hls_url: url } = row.file.playback;
  const box = row.view.player;
  box.hidden = false;
  const failed = () => box.replaceChildren(paragraph(t("player_failed")));
  const { playerFor } = await import("./player.js");
  const video = await playerFor(url, settings.hls_js, failed);
  box.replaceChildren(video ?? manifestLink(url));
  video?.setAttribute("aria-label", row.name);
  show(row);
  if (!button) return;
  box.firstElementChild.focus();
  video?.play().catch(() => {}); // the controls are there
}

function paragraph(text) {
  const element = document.createElement("p");
  element.textContent = text;
  return element;
}

function manifestLink(url) {
  const link = document.createElement("a");
  link.href = /^https?:/.test(url) ? url : "#";
  link.textContent = t("open_manifest");
  return link;
}

/** A command line that follows the events of one file. */
function curlFor(row) {
  const word = (text) => `'${text.replaceAll("'", "'\\''")}'`;
  const headers = [`Authorization: Bearer ${row.token}`, "Accept: text/event-stream"];
  const options = headers.map((line) => `-H ${word(line)}`);
  return ["curl -N", ...options, word(eventsUrl(row))].join(" ");
}

async function copy(text, button) {
  const { copyText } = await import("./clipboard.js");
  const message = t((await copyText(text)) ? "copied" : "copy_failed");
  button.textContent = message;
  news(message);
  setTimeout(() => (button.textContent = t(button.dataset.t)), COPIED_MS);
}

function showLanguage() {
  document.documentElement.lang = currentLanguage();
  for (const root of [document, $("row").content]) translate(root);
  for (const button of document.querySelectorAll(".languages button")) {
    button.setAttribute("aria-pressed", button.value === currentLanguage());
  }
  $("news").replaceChildren();
  for (const row of rows) row.view.render(row);
}

function translate(root) {
  for (const element of root.querySelectorAll("[data-t]")) {
    element.textContent = t(element.dataset.t);
  }
  for (const element of root.querySelectorAll("[data-t-label]")) {
    element.setAttribute("aria-label", t(element.dataset.tLabel));
  }
}

function say(id, key) {
  $(id).dataset.t = key;
  $(id).textContent = t(key);
  $(id).hidden = false;
}

function addFiles(files) {
  if (apiKey()) {
    for (const file of files) enqueue(file, act);
    return;
  }
  say("key-state", "key_missing");
  $("key").focus();
}

function takeDrop(event) {
  event.preventDefault();
  document.body.classList.remove("dropping");
  const items = [...event.dataTransfer.items].filter(({ kind }) => kind === "file");
  const isFolder = (item) => item.webkitGetAsEntry?.()?.isDirectory;
  if (items.some(isFolder)) say("notice", "no_folders");
  addFiles(items.filter((item) => !isFolder(item)).map((item) => item.getAsFile()));
}

function takeKey(event) {
  event.preventDefault();
  const key = $("key").value.trim();
  if (key) pasteApiKey(key);
  $("key").value = "";
  say("key-state", key ? "key_kept" : "key_missing");
}

function listen() {
  for (const button of document.querySelectorAll(".languages button")) {
    button.addEventListener("click", async () => {
      await setLanguage(button.value);
      rememberLanguage();
      showLanguage();
    });
  }
  addEventListener("beforeunload", (event) => {
    if ([...rows].some((row) => stageOf(row) === "uploading")) event.preventDefault();
  });
  setInterval(tick, 1_000);
}

/** Clocks of running steps move on between two events. */
function tick() {
  if (document.hidden) return;
  for (const row of rows) if (!isOver(stageOf(row))) row.view.render(row);
}

function listenForFiles() {
  $("choose").addEventListener("click", () => $("pick").click());
  $("pick").addEventListener("change", () => {
    addFiles([...$("pick").files]);
    $("pick").value = "";
  });
  addEventListener("dragover", (event) => {
    event.preventDefault();
    document.body.classList.add("dropping");
  });
  addEventListener("dragleave", (event) => {
    if (!event.relatedTarget) document.body.classList.remove("dropping");
  });
  addEventListener("drop", takeDrop);
  $("key-form").addEventListener("submit", takeKey);
}

function restore() {
  for (const entry of all().reverse()) {
    follow(addRow({ ...entry, restored: true }, act), 0);
  }
}

/** `/?file=<id>&token=<t>`: only that file; the token leaves the address bar at once. */
function watchOnly(query) {
  const id = query.get("file");
  const kept = `reelready.watch.${id}`;
  const token = query.get("token") ?? sessionStorage.getItem(kept);
  if (!token) return say("notice", "link_incomplete");
  sessionStorage.setItem(kept, token);
  history.replaceState(null, "", `?file=${encodeURIComponent(id)}`);
  follow(addRow({ id, token, name: id, restored: true }, act), 0);
}

async function start() {
  showLanguage();
  listen();
  const [navigation] = performance.getEntriesByType("navigation");
  if (/^h[23]/.test(navigation?.nextHopProtocol)) tuning.maxStreams = H2_STREAMS;
  await loadSettings().catch(() => say("notice", "no_gateway"));
  const query = new URLSearchParams(location.search);
  if (query.has("file")) watchOnly(query);
  else openForFiles();
  $("empty").hidden = rows.size > 0 || query.has("file");
  document.documentElement.dataset.started = "";
}

function openForFiles() {
  $("key-form").hidden = settings.api_key !== null;
  $("add").hidden = false;
  listenForFiles();
  restore();
}

start();
