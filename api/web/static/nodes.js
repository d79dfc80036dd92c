// Names the node under the pointer. The map's attributes hold the names and verdicts in short forms (see api/pages_nodes.go).
const verdicts = {"F": "node full", "U": "uncovered", "D": "disk", "R": "no room", "X": "node down", "M": "malfunctioning", "?": "unknown",
  "r": "rolling out", "·": "covered", "-": "excluded"};
const read = new WeakMap();

function decode(map) {
  const kept = read.get(map);
  if (kept && kept.cells === map.dataset.cells && kept.coded === map.dataset.names) return kept;
  const names = [];
  let before = "";
  for (const line of map.dataset.names.split("\n").slice(0, -1)) {
    const cut = line.indexOf("/");
    before = before.slice(0, Number(line.slice(0, cut))) + line.slice(cut + 1);
    names.push(before);
  }
  const letters = [];
  for (const [, letter, n] of map.dataset.cells.matchAll(/(\D)(\d+)/gu)) for (let i = 0; i < Number(n); i++) letters.push(letter);
  const all = {cells: map.dataset.cells, coded: map.dataset.names, names, letters};
  read.set(map, all);
  return all;
}

// at is the index of the node under a point of the page, or -1.
function at(map, event) {
  const box = map.getBoundingClientRect();
  const scale = map.viewBox.baseVal.width / box.width;
  const pitch = Number(map.dataset.pitch);
  const column = Math.floor(((event.clientX - box.left) * scale - 1) / pitch);
  const row = Math.floor(((event.clientY - box.top) * scale - 1) / pitch);
  const columns = Number(map.dataset.columns);
  return column < 0 || column >= columns || row < 0 ? -1 : row * columns + column;
}

export function nodes() {
  let tip = null;
  const hide = () => { if (tip) tip.hidden = true; };
  document.addEventListener("pointermove", (event) => {
    const map = event.target.closest?.("svg.nodes");
    if (!map) { hide(); return; }
    const {names, letters} = decode(map);
    const i = at(map, event);
    if (!names[i]) { hide(); return; }
    if (!tip) {
      tip = document.createElement("div");
      tip.id = "tip";
      tip.setAttribute("aria-hidden", "true"); // the tables say the same
      document.body.append(tip);
    }
    tip.hidden = false;
    tip.textContent = `${names[i]}  ${verdicts[letters[i]] ?? "unknown"}`;
    const left = Math.min(event.clientX + 14, innerWidth - tip.offsetWidth - 8);
    const top = Math.min(event.clientY + 14, innerHeight - tip.offsetHeight - 8);
    // Through the object model: the content security policy forbids style attributes, not this.
    tip.style.left = `${left}px`;
    tip.style.top = `${top}px`;
  });
}
