// Copies a URL or token that is shown once, and waits for the first probe and the first result.
"use strict";

const EVERY = 1000; // milliseconds
const LONGEST = 30 * 60 * 1000;

for (const button of document.querySelectorAll("[data-copy]")) {
  const field = document.getElementById(button.dataset.copy);
  const told = button.parentElement.querySelector("output");
  button.hidden = false;
  button.addEventListener("click", async () => {
    field.select();
    try {
      await navigator.clipboard.writeText(field.value);
      told.textContent = "Copied";
    } catch {
      told.textContent = document.execCommand("copy") ? "Copied" : "Copy it with Ctrl+C";
    }
  });
}

for (const place of document.querySelectorAll("[data-waits]")) wait(place);

async function wait(place) {
  const [probe, result, told] = ["probe", "result", "waited"].map((id) => document.getElementById(id));
  told.textContent = "Waiting …";
  for (const until = Date.now() + LONGEST; Date.now() < until;) {
    const seen = await look(place.dataset.waits);
    if (seen === null) {
      told.textContent = "You are signed out: sign in again, then see the calls.";
      return;
    }
    if (seen?.probed) reach(probe, "✓ First probe: it came, and was answered.");
    if (seen?.result) {
      reach(result, "✓ First result: it came. ", linked(seen.result));
      told.textContent = "";
      return;
    }
    await new Promise((resolve) => { setTimeout(resolve, EVERY); });
  }
  told.textContent = "Nothing has come for half an hour; load the calls of this integration later.";
}

// Returns undefined while the service does not answer, and null if it redirects to the sign-in page.
async function look(address) {
  try {
    const answer = await fetch(address, { redirect: "manual" });
    if (answer.type === "opaqueredirect") return null;
    return answer.ok ? await answer.json() : undefined;
  } catch {
    return undefined;
  }
}

function reach(item, text, ...more) {
  if (item.classList.contains("good")) return;
  item.classList.add("good");
  item.replaceChildren(text, ...more);
}

function linked(result) {
  const link = document.createElement("a");
  const isCall = result.outcome_id !== null;
  link.href = isCall ? `/calls/${result.outcome_id}` : `/deliveries/${result.id}`;
  link.textContent = isCall ? "See the call" : "It was not understood: see it as it came";
  return link;
}
