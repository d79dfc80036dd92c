// Keeps the page's main part fresh. Without it the pages are whole; with it they move.
"use strict";
const period = 2000;
const live = document.getElementById("live");
let busy = false;

async function refresh() {
  // Not while the reader is away, or is selecting text that would vanish.
  if (busy || document.hidden || !document.getSelection().isCollapsed) return;
  busy = true;
  try {
    const answer = await fetch(location.href, {credentials: "same-origin", redirect: "error"});
    if (!answer.ok) throw new Error(answer.statusText);
    const fresh = new DOMParser().parseFromString(await answer.text(), "text/html").querySelector("main");
    const main = document.querySelector("main");
    if (fresh && !main.contains(document.activeElement)) {
      // What the reader unfolded stays unfolded.
      const open = [...main.querySelectorAll("details")].map((d) => d.open);
      fresh.querySelectorAll("details").forEach((d, i) => { d.open = open[i] || false; });
      if (fresh.innerHTML !== main.innerHTML) main.replaceChildren(...fresh.childNodes);
    }
    live.textContent = "live";
    live.className = "live";
  } catch {
    live.textContent = "reconnecting…";
    live.className = "";
  } finally {
    busy = false;
  }
}
setInterval(refresh, period);
