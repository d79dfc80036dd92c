// Shows times in the reader's zone, with UTC when the pointer is on them, and ages that go on.
const units = [["d", 86400], ["h", 3600], ["min", 60], ["s", 1]];

function utc() { return localStorage.getItem("zone") === "utc"; }

// Formats are kept: to make one takes longer than to use it on all times of a page.
const formats = new Map();

function format(date, name, options) {
  const key = name + utc();
  if (!formats.has(key)) formats.set(key, new Intl.DateTimeFormat(undefined, {...options, hourCycle: "h23", timeZone: utc() ? "UTC" : undefined}));
  return formats.get(key).format(date);
}

export function clock(date) { return format(date, "clock", {hour: "2-digit", minute: "2-digit", second: "2-digit"}); }

function day(date) { return format(date, "day", {day: "numeric", month: "short", hour: "2-digit", minute: "2-digit", second: "2-digit"}); }

function ago(date) {
  const seconds = Math.max(0, Math.round((Date.now() - date) / 1000));
  const [name, size] = units.find(([, n]) => seconds >= n) || units[3];
  return `${Math.floor(seconds / size)} ${name} ago`;
}

const names = new Intl.DateTimeFormat(undefined, {timeZoneName: "short"});

export function showTimes() {
  const shown = utc() ? "" : ` (shown in ${names.formatToParts(new Date()).find((p) => p.type === "timeZoneName").value})`;
  for (const el of document.querySelectorAll("time[datetime]")) {
    const date = new Date(el.dateTime);
    if (Number.isNaN(date.getTime())) continue;
    const text = {clock, ago}[el.dataset.show]?.(date) ?? day(date);
    if (el.textContent !== text) el.textContent = text;
    const title = date.toISOString().replace("T", " ").replace(/\.\d+Z$/, " UTC") + shown;
    if (el.title !== title) el.title = title;
  }
}

setInterval(() => { if (!document.hidden) showTimes(); }, 5000);
