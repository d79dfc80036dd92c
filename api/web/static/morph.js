// Makes one tree like another with as few changes as can be: what the reader has opened, focused, selected or typed stays.

// own are attributes that belong to the reader, not to the server.
function own(el, name) {
  return (name === "open" && el.localName === "details") || (name === "value" && el.localName === "input") || name === "data-mine";
}

// keyOf is what a node is known by among its siblings.
function keyOf(node) {
  return node.nodeType === Node.ELEMENT_NODE && node.id ? node.id : "";
}

function same(a, b) {
  return a.nodeType === b.nodeType && a.nodeName === b.nodeName && keyOf(a) === keyOf(b);
}

function attributes(now, fresh) {
  for (const {name} of [...now.attributes]) {
    if (!fresh.hasAttribute(name) && !own(now, name)) now.removeAttribute(name);
  }
  for (const {name, value} of fresh.attributes) {
    if (now.getAttribute(name) !== value && !own(now, name)) now.setAttribute(name, value);
  }
}

// sent is the server's HTML of an element whose content a script has changed (a time in the reader's zone).
export const sent = new WeakMap();

export function morph(now, fresh) {
  if (now.isEqualNode(fresh)) return;
  if (now.nodeType !== Node.ELEMENT_NODE) {
    if (now.nodeValue !== fresh.nodeValue) now.nodeValue = fresh.nodeValue;
    return;
  }
  if (now.localName === "time" && now.dateTime === fresh.dateTime) return;
  if (now.matches("form") && now.contains(document.activeElement)) return; // somebody writes in it
  attributes(now, fresh);
  const byKey = new Map();
  for (const child of now.children) if (child.id) byKey.set(child.id, child);
  let at = now.firstChild;
  for (const child of [...fresh.childNodes]) {
    const known = byKey.get(keyOf(child));
    if (known && known !== at && same(known, child)) {
      now.insertBefore(known, at);
      morph(known, child);
    } else if (at && same(at, child)) {
      const next = at.nextSibling;
      morph(at, child);
      at = next;
    } else {
      now.insertBefore(child, at);
    }
  }
  while (at) {
    const next = at.nextSibling;
    at.remove();
    at = next;
  }
}
