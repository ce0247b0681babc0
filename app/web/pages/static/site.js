// Pages work without this script. It reports new calls, and the progress of an export.
"use strict";

const numbers = new Intl.NumberFormat("en");
const COUNTED = ["csv", "ndjson"]; // formats with a line for each call
const MOST = 200000; // calls of an export that this page holds; the browser's own download takes more

// New calls are announced and not inserted, so that nothing moves while somebody reads.
for (const place of document.querySelectorAll("[data-live]")) {
  const seen = new Set();
  let source = null;

  function listen() {
    source = new EventSource(place.dataset.live);
    source.onopen = () => { place.dataset.joined = ""; };
    source.onmessage = (event) => {
      seen.add(JSON.parse(event.data).id);
      if ("empty" in place.dataset) location.reload();
      offer(seen.size === 1 ? "1 call is new or has changed: show it" : `${numbers.format(seen.size)} calls are new or have changed: show them`);
    };
  }

  function offer(text) {
    const show = document.createElement("a");
    show.href = location.href;
    show.textContent = text;
    show.onclick = () => { location.reload(); return false; };
    place.replaceChildren(show);
  }

  // A browser has six connections per host for all its tabs, so a hidden tab holds none.
  document.addEventListener("visibilitychange", () => {
    source.close();
    if (document.hidden) return;
    listen();
    if (!seen.size) offer("Calls may have come while this page was out of sight: show them");
  });
  addEventListener("pagehide", () => source.close());
  listen();
}

// A form that is sent twice would make two keys or tokens.
const sent = new Set();
addEventListener("pageshow", () => sent.clear());
for (const form of document.querySelectorAll('form[method="post"]:not(.export)')) {
  form.addEventListener("submit", (event) => {
    if (sent.has(form)) event.preventDefault();
    sent.add(form);
  });
}

for (const form of document.querySelectorAll("form.export")) {
  const output = form.querySelector("output");
  const total = Number(output.dataset.total);
  form.addEventListener("submit", async (event) => {
    if (!total || total > MOST) return;
    event.preventDefault();
    const button = form.querySelector("button");
    button.disabled = true;
    try {
      await take(form, output, total);
    } catch (error) {
      output.textContent = `The export broke off (${error.message}). Try again.`;
    }
    button.disabled = false;
  });
}

async function take(form, output, total) {
  const asked = new URLSearchParams(new FormData(form));
  output.textContent = "The export is being made …";
  const answer = await fetch(form.action, { method: "POST", body: asked });
  if (!answer.ok || answer.redirected) {
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    output.textContent = page.querySelector("main p")?.textContent ?? `The export failed: ${answer.status}`;
    return;
  }
  const chunks = [];
  let lines = -1; // the header line is no call; NDJSON has no header
  if (asked.get("format") === "ndjson") lines = 0;
  let size = 0;
  for (const reader = answer.body.getReader(); ;) {
    const { done, value } = await reader.read();
    if (done) break;
    chunks.push(value);
    size += value.length;
    for (const byte of value) lines += byte === 10;
    const calls = Math.min(Math.max(lines, 0), total);
    output.textContent = COUNTED.includes(asked.get("format"))
      ? `${numbers.format(calls)} of ${numbers.format(total)} calls`
      : `${numbers.format(Math.ceil(size / 1024))} KiB`;
  }
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob(chunks, { type: answer.headers.get("Content-Type") }));
  link.download = /filename="([^"]+)"/.exec(answer.headers.get("Content-Disposition"))?.[1] ?? "calls";
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60000);
  output.textContent = `Done: ${link.download}`;
}
