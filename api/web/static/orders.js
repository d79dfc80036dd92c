// Sends an order without leaving the page, shows a refusal beside its button, and lets nobody press twice.
import {show} from "./live.js";

async function send(event) {
  const form = event.target.closest(".order form");
  if (!form || !form.action.includes("/runs/")) return;
  event.preventDefault();
  const button = form.querySelector("button[type=submit]");
  if (button.disabled) return;
  button.disabled = true;
  const wrong = (text) => {
    let p = form.querySelector(".refused");
    if (!p) {
      p = document.createElement("p");
      p.className = "refused";
      p.setAttribute("role", "alert");
      button.before(p);
    }
    p.textContent = text;
    button.disabled = false;
  };
  try {
    const answer = await fetch(form.action, {method: "POST", body: new URLSearchParams(new FormData(form)), credentials: "same-origin"});
    const to = new URL(answer.url);
    if (answer.redirected && to.pathname === "/login") { location.assign(to); return; }
    if (answer.redirected && to.pathname !== location.pathname) { location.assign(to); return; } // a new run
    if (answer.status >= 500) { wrong("Drydock could not do it just now. Press again: it is done once."); return; }
    document.activeElement?.blur();
    if (answer.ok) form.closest("details").open = false;
    show(await answer.text());
    button.disabled = false;
    if (answer.ok) document.getElementById("main").focus({preventScroll: true});
  } catch {
    // The form's key makes a second try safe: what was done is not done again.
    wrong("Drydock does not answer. Press again in a moment: it is done once.");
  }
}

export function orders() { document.addEventListener("submit", send); }

export function copies() {
  const reveal = () => { for (const b of document.querySelectorAll("button.copy[hidden]")) b.hidden = !navigator.clipboard; };
  reveal();
  document.addEventListener("shown", reveal);
  document.addEventListener("click", async (event) => {
    const button = event.target.closest("button.copy");
    if (!button) return;
    const text = button.dataset.copy.startsWith("/") ? location.origin + button.dataset.copy : button.dataset.copy;
    try {
      await navigator.clipboard.writeText(text);
      button.textContent = "copied";
    } catch {
      button.textContent = "not allowed";
    }
    setTimeout(() => { button.textContent = "copy"; }, 1500);
  });
}
