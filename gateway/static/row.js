/**
 * One row of the list: plain values in, the same elements changed in place.
 *
 * Names and messages of others only ever become text; nothing here parses HTML.
 */

import { serverNow } from "./settings.js";
import { bytes, clock, currentLanguage, duration, knows, number, t } from "./strings.js";
import { isOver, progressOf, railOf, stageOf, toneOf, totalOf } from "./steps.js";

let count = 0;

/** A row's view: `element`, `render(row)`, `focus()`; `act(action, button)` on its buttons. */
export function createView(act) {
  const template = document.getElementById("row");
  const element = template.content.firstElementChild.cloneNode(true);
  const parts = {};
  for (const part of element.querySelectorAll("[data-part]")) {
    parts[part.dataset.part] = part;
  }
  const [step] = parts.rail.children;
  parts.rail.append(...[1, 2, 3].map(() => step.cloneNode(true)));
  const buttons = [...element.querySelectorAll("[data-action]")];
  count += 1;
  parts.name.id = `name-${count}`;
  parts.progress.setAttribute("aria-labelledby", parts.name.id);
  for (const button of buttons) {
    // Read out as "Cancel upload holiday.mov": the same words in every row, told apart.
    button.id = `${button.dataset.action}-${count}`;
    button.setAttribute("aria-labelledby", `${button.id} ${parts.name.id}`);
    button.addEventListener("click", () => act(button.dataset.action, button));
  }
  return {
    element,
    player: parts.player,
    focus: () => parts.heading.focus(),
    render: (row) => render(row, { element, parts, buttons }),
  };
}

/** What the row says in one line. */
export function headlineOf(row, stage) {
  const total = stage === "playable" ? totalOf(row.events) : null;
  return total === null ? t(stage) : t("playable_in", { time: duration(total) });
}

/** Why a row ended badly or what to do about it, in plain words; "" when all is well. */
export function detailOf(row, stage) {
  const { error } = row.file ?? {};
  if (stage === "uploading") {
    const { done, total } = row.sending;
    return t("uploading_detail", { done: bytes(done), total: bytes(total) });
  }
  if (stage === "refused") return problemText(row.problem);
  if (stage === "lost") return t(row.lost);
  if (stage === "awaiting_upload" && row.restored) return t("awaiting_detail");
  if (stage === "playable") return playbackText(row.file.playback);
  if (!error || stage === "stopped") return "";
  return knows(`error_${error.code}`) ? t(`error_${error.code}`) : error.message;
}

function problemText({ key, limit }) {
  return t(`problem_${key}`, { limit: limit ? bytes(limit) : "" });
}

function playbackText(playback) {
  const sizes = playback.renditions
    .filter(({ width, height }) => width && height)
    .map(({ width, height }) => `${width} \u00d7 ${height}`);
  const length = playback.duration_ms ? [duration(playback.duration_ms)] : [];
  return [...length, ...new Set(sizes)].join(" \u00b7 ");
}

/** The server's own words and codes, for whoever has to look into it. */
function asideOf(row, stage) {
  if (stage === "refused") return row.problem.detail ?? row.problem.field ?? "";
  const { error } = row.file ?? {};
  if (!error || stage === "stopped") return "";
  const code = t("error_code", { code: error.code });
  return detailOf(row, stage) === error.message ? code : `${error.message} ${code}`;
}

function render(row, { element, parts, buttons }) {
  const stage = stageOf(row);
  element.dataset.stage = stage;
  element.dataset.tone = toneOf(stage);
  setText(parts.name, row.name);
  setText(parts.size, row.size === null ? "" : bytes(row.size));
  setText(parts.headline, headlineOf(row, stage));
  setText(parts.connection, isOver(stage) || !row.connection ? "" : t(row.connection));
  parts.connection.dataset.connection = row.connection ?? "";
  setText(parts.detail, detailOf(row, stage));
  setText(parts.aside, asideOf(row, stage));
  renderBar(row, stage, parts);
  renderRail(row, stage, parts.rail);
  renderHistory(row, parts);
  renderButtons(row, stage, { parts, buttons });
}

function renderBar(row, stage, { bar, progress, amount }) {
  const state = progressOf(row, stage);
  bar.hidden = state === null;
  if (state === null) return;
  if (state.max === undefined) {
    progress.removeAttribute("value");
    progress.setAttribute("aria-valuetext", headlineOf(row, stage));
    setText(amount, "");
    return;
  }
  const percent = Math.floor((100 * state.value) / (state.max || 1));
  progress.max = state.max || 1;
  progress.value = state.value;
  progress.setAttribute(
    "aria-valuetext",
    `${headlineOf(row, stage)}, ${t("percent", { n: number(percent) })}`,
  );
  setText(amount, `${number(percent)} %`);
}

function renderRail(row, stage, rail) {
  rail.setAttribute("aria-label", t("steps"));
  railOf(row, stage, serverNow()).forEach((step, index) => {
    const item = rail.children[index];
    const [label, state, time] = item.children;
    item.dataset.state = step.state;
    if (step.state === "current") item.setAttribute("aria-current", "step");
    else item.removeAttribute("aria-current");
    setText(label, t(step.label));
    setText(state, t(`step_${step.state}`));
    setText(time, step.ms === null ? "" : duration(step.ms, step.running));
  });
}

function renderHistory(row, parts) {
  const { events } = row;
  const shown = `${currentLanguage()} ${events.length} ${events.at(-1)?.seq}`;
  parts.history.hidden = events.length === 0;
  if (parts.history.dataset.shown === shown) return;
  parts.history.dataset.shown = shown;
  setText(parts["history-title"], t("history", { n: number(events.length) }));
  parts["history-rows"].replaceChildren(...events.map(historyRow));
}

function historyRow(file) {
  const percent = file.percent === null ? null : `${number(file.percent)} %`;
  const state = [file.status, file.phase, percent].filter(Boolean).join(" \u00b7 ");
  const line = document.createElement("tr");
  for (const text of [number(file.seq), clock(new Date(file.updated_at)), state]) {
    line.insertCell().textContent = text;
  }
  return line;
}

function renderButtons(row, stage, { parts, buttons }) {
  const useful = {
    play: stage === "playable" && parts.player.hidden,
    retry: Boolean(row.source) && isOver(stage) && stage !== "playable",
    cancel: stage === "uploading" || stage === "queued",
    copy_playback: stage === "playable",
    copy_curl: Boolean(row.id) && stage !== "lost",
    copy_watch: Boolean(row.id) && stage !== "lost",
    remove: isOver(stage) || row.restored,
  };
  for (const button of buttons) {
    const hide = !useful[button.dataset.action];
    if (hide && button === document.activeElement) parts.heading.focus();
    button.hidden = hide;
  }
}

function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
  if (element.tagName === "P") element.hidden = text === "" && !element.children.length;
}
