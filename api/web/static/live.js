// Keeps the page as it would be if it were loaded now. A run's page listens to the run's events; lists look again every few seconds.
import {morph} from "./morph.js";
import {showTimes, clock} from "./times.js";

const quiet = 150; // ms that events are collected for before the page is read once
const retry = 2000; // ms between tries while the server is away
const silence = 40000; // ms without even a heartbeat, after which the connection is taken for dead

const live = document.getElementById("live");
const trouble = document.getElementById("trouble");
let paused = false;
let reading = false;
let again = false;
let source = null;
let poll = 0;
let timer = 0;
let read = new Date();

function say(state) {
  if (!live) return;
  const texts = {live: "live", paused: "paused", away: "reconnecting…", still: ""};
  if (live.dataset.state === state) return;
  live.dataset.state = state;
  live.className = "live" + (state === "live" ? " on" : state === "away" ? " off" : "");
  live.textContent = texts[state];
  const button = document.getElementById("pause");
  if (button) button.hidden = state === "still"; // nothing more comes
}

// tell shows what is wrong above the page, or with an empty text takes it away.
function tell(text, href, label) {
  trouble.hidden = !text;
  trouble.textContent = text;
  if (href) {
    const a = document.createElement("a");
    a.href = href;
    a.textContent = label;
    trouble.append(" ", a);
  }
}

// show puts a page that was read into the place of this one's.
export function show(html) {
  const fresh = new DOMParser().parseFromString(html, "text/html");
  const main = fresh.querySelector("main");
  if (!main) throw new Error("this is no page of Drydock");
  morph(document.querySelector("main"), main);
  if (document.title !== fresh.title) document.title = fresh.title;
  const stop = document.querySelector("body > p.banner:not(#trouble)");
  const stops = fresh.querySelector("body > p.banner:not(#trouble)");
  if (stop && !stops) stop.remove();
  else if (stops && !stop) document.querySelector("main").before(stops);
  else if (stop && stops) morph(stop, stops);
  // A run that has ended has no events any more, and a new one has others.
  document.body.toggleAttribute("data-ended", "stream" in document.body.dataset && !fresh.body.dataset.stream);
  if (!fresh.body.dataset.stream && !fresh.body.dataset.poll) delete document.body.dataset.stream;
  read = new Date();
  showTimes();
  document.dispatchEvent(new Event("shown"));
}

async function look() {
  if (reading) { again = true; return; }
  reading = true;
  try {
    const answer = await fetch(location.href, {credentials: "same-origin", redirect: "manual", headers: {Accept: "text/html"}});
    if (answer.type === "opaqueredirect" || answer.status === 401) {
      end();
      tell("Your session has ended; this page stands still.", "/login?next=" + encodeURIComponent(location.pathname + location.search), "Log in again");
      say("still");
      return;
    }
    const html = await answer.text();
    if (answer.status >= 500 || answer.status === 429) throw new Error(answer.statusText);
    if (!paused && !selecting()) show(html);
    tell("");
    if (!paused) say("live");
    if (document.body.hasAttribute("data-ended")) { end(); say("still"); }
  } catch {
    away();
  } finally {
    reading = false;
    if (again) { again = false; later(); }
  }
}

// selecting: a text that somebody marks would lose its marks.
function selecting() {
  const s = document.getSelection();
  return s && !s.isCollapsed && document.querySelector("main").contains(s.anchorNode);
}

function away() {
  say("away");
  tell(`Drydock does not answer. What you see is as of ${clock(read)}; trying again.`);
  if (!poll) later(retry);
}

function later(ms = quiet) {
  clearTimeout(timer);
  timer = setTimeout(look, ms);
}

function end() {
  if (source) source.close();
  source = null;
  clearInterval(poll);
  poll = 0;
  clearTimeout(timer);
}

function listen() {
  source = new EventSource(document.body.dataset.stream);
  let heard = Date.now();
  const event = () => { heard = Date.now(); if (!paused) later(); };
  for (const name of ["tick", "intent", "end"]) source.addEventListener(name, event);
  source.onopen = () => { heard = Date.now(); later(0); };
  // It comes again by itself, with the last event that it saw; but not after an answer that is no stream.
  source.onerror = () => {
    if (source && source.readyState === EventSource.CLOSED) { source = null; setTimeout(begin, retry); }
    later(0);
  };
  // Seconds pass between events: the durations on the page go on all the same.
  clearInterval(poll);
  poll = setInterval(() => {
    if (document.hidden || paused) return;
    if (Date.now() - heard > silence / 8) later(0);
  }, 5000);
}

function begin() {
  end();
  if (document.hidden || paused) return;
  if (document.body.dataset.stream) listen();
  else if (document.body.dataset.poll) {
    poll = setInterval(() => { if (!document.hidden) look(); }, Number(document.body.dataset.poll) * 1000);
    look();
  }
}

export function pause() {
  paused = !paused;
  if (paused) { end(); say("paused"); } else begin();
  return paused;
}

export function follow() {
  if (!live || !(document.body.dataset.stream || document.body.dataset.poll)) return;
  say("live");
  const button = document.createElement("button");
  button.type = "button";
  button.className = "link";
  button.id = "pause";
  button.textContent = "Pause";
  button.addEventListener("click", () => { button.textContent = pause() ? "Go on" : "Pause"; });
  live.after(button);
  // A browser keeps six connections to a server: pages that nobody looks at give theirs back.
  document.addEventListener("visibilitychange", () => { if (document.hidden) end(); else begin(); });
  begin();
}
