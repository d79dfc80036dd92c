// Single keys: j and k walk through a list, and so on. They can be switched off (WCAG 2.1.4), and do nothing while somebody types.

const help = [["j / k", "next / previous in the list"], ["Enter", "open it"], ["n", "older"], ["/", "filter"], ["p", "pause, go on"],
  ["g o", "overview"], ["g r", "runs"], ["g c", "carriers"], ["?", "these keys"]];
let going = false;

export function keysOn() { return localStorage.getItem("keys") !== "off"; }

function step(by) {
  const rows = [...document.querySelectorAll("a.row")];
  if (!rows.length) return;
  const at = rows.indexOf(document.activeElement);
  const next = rows[at < 0 ? (by > 0 ? 0 : rows.length - 1) : Math.min(rows.length - 1, Math.max(0, at + by))];
  next.focus();
  next.scrollIntoView({block: "nearest"});
}

export function showHelp() {
  let dialog = document.getElementById("keys");
  if (!dialog) {
    dialog = document.createElement("dialog");
    dialog.id = "keys";
    dialog.setAttribute("aria-labelledby", "keys-title");
    const title = document.createElement("h2");
    title.id = "keys-title";
    title.textContent = "Keys";
    const list = document.createElement("dl");
    list.className = "keys";
    for (const [key, text] of help) {
      const dt = document.createElement("dt");
      const kbd = document.createElement("kbd");
      kbd.textContent = key;
      dt.append(kbd);
      const dd = document.createElement("dd");
      dd.textContent = text;
      list.append(dt, dd);
    }
    const close = document.createElement("button");
    close.type = "button";
    close.textContent = "Close";
    close.addEventListener("click", () => dialog.close());
    dialog.append(title, list, close);
    document.body.append(dialog);
  }
  dialog.showModal();
}

function press(event) {
  if (!keysOn() || event.ctrlKey || event.altKey || event.metaKey || event.target.closest("input, select, textarea, dialog")) return;
  const went = going;
  going = false;
  if (went) {
    const to = {o: "/", r: "/runs", c: "/carriers"}[event.key];
    if (to) location.assign(to);
    return;
  }
  switch (event.key) {
    case "j": step(1); break;
    case "k": step(-1); break;
    case "n": document.querySelector("a[rel=next]")?.click(); break;
    case "/": document.querySelector(".filters select, .filters input:not([type=hidden])")?.focus(); break;
    case "p": document.getElementById("pause")?.click(); break;
    case "g": going = true; return;
    case "?": showHelp(); break;
    default: return;
  }
  event.preventDefault();
}

export function keys() { document.addEventListener("keydown", press); }
