// The reader's own choices, kept in the browser: the theme, the zone of times, and single keys.
import {showTimes} from "./times.js";
import {showHelp} from "./keys.js";

function choice(label, key, values, change) {
  const el = document.createElement("label");
  const select = document.createElement("select");
  for (const [value, text] of values) {
    const option = document.createElement("option");
    option.value = value;
    option.textContent = text;
    select.append(option);
  }
  select.value = localStorage.getItem(key) ?? values[0][0];
  select.addEventListener("change", () => {
    if (select.value === values[0][0]) localStorage.removeItem(key);
    else localStorage.setItem(key, select.value);
    change(select.value);
  });
  el.append(label, select);
  return el;
}

export function preferences() {
  const place = document.getElementById("preferences");
  if (!place) return;
  const help = document.createElement("button");
  help.type = "button";
  help.className = "link";
  help.textContent = "Keys";
  help.addEventListener("click", showHelp);
  place.append(
    choice("Theme", "theme", [["", "system"], ["light", "light"], ["dark", "dark"]], (v) => {
      if (v) document.documentElement.dataset.theme = v;
      else delete document.documentElement.dataset.theme;
    }),
    choice("Times", "zone", [["", "local"], ["utc", "UTC"]], showTimes),
    choice("Single keys", "keys", [["", "on"], ["off", "off"]], () => {}),
    help);
}
