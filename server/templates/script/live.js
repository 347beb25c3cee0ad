// Keeps the parts of a page that are marked data-live up to date: when the server tells of something, and every few
// seconds besides. It fetches the page again, as a reload would, and takes over those parts. Pages work without it.

const AFTER_NOTICE_MS = 700;
const EVERY_MS = 10_000;
const APART_MS = 2_000;

let timer = 0;
let last = 0;
let busy = false;

// Nothing is taken away from under somebody who types, selects or has a confirmation open.
const inUse = (part) =>
  part.contains(document.activeElement) && document.activeElement.matches("input, select, textarea, summary, button") ||
  part.querySelector("details.confirm[open], input:checked") !== null ||
  (window.getSelection()?.toString() && part.contains(window.getSelection().anchorNode));

const take = (part, fresh) => {
  if (inUse(part) || part.innerHTML === fresh.innerHTML) return;
  const open = new Set([...part.querySelectorAll("details[open][id]")].map((one) => one.id));
  const focused = part.contains(document.activeElement) ? document.activeElement.getAttribute("href") : null;
  part.replaceChildren(...fresh.childNodes);
  for (const id of open) part.querySelector(`#${CSS.escape(id)}`)?.setAttribute("open", "");
  if (focused) part.querySelector(`a[href="${CSS.escape(focused)}"]`)?.focus();
};

const look = async () => {
  clearTimeout(timer);
  if (busy || document.visibilityState !== "visible") return;
  busy = true;
  last = Date.now();
  try {
    const answer = await fetch(location.href, { headers: { accept: "text/html", "x-callboard-live": "1" } });
    if (answer.redirected) return location.reload();
    if (answer.ok) {
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      for (const part of document.querySelectorAll("[data-live][id]")) {
        const fresh = page.getElementById(part.id);
        if (fresh) take(part, fresh);
      }
    }
  } catch {
    // The server is away; the next look is made all the same.
  } finally {
    busy = false;
    plan(EVERY_MS);
  }
};

const plan = (ms) => {
  clearTimeout(timer);
  timer = setTimeout(look, Math.max(ms, last + APART_MS - Date.now()));
};

const KINDS = [
  "rollout.started", "rollout.phase_opened", "rollout.paused", "rollout.halted", "rollout.completed",
  "device.enrolled", "device.attention", "device.regressed", "trust.expiring",
];

const follow = () => {
  let source = null;
  const listen = () => {
    if (document.visibilityState !== "visible") {
      source?.close();
      source = null;
    } else if (source === null && document.body.dataset.follow !== "listen") {
      // Whoever has not logged in may look, but not listen.
      plan(last ? 0 : EVERY_MS);
    } else if (source === null) {
      source = new EventSource("/api/v1/events/stream");
      // Whoever may not listen looks every few seconds all the same.
      source.onerror = () => { if (source?.readyState === EventSource.CLOSED) source = undefined; };
      for (const kind of [...KINDS, "message"]) source.addEventListener(kind, () => plan(AFTER_NOTICE_MS));
      plan(last ? 0 : EVERY_MS);
    } else {
      plan(0);
    }
  };
  document.addEventListener("visibilitychange", listen);
  listen();
};

if (document.body.hasAttribute("data-follow")) follow();
