// Keeps the page as the node says it is. The node renders; what changed comes as HTML of whole sections and is put into
// the page node by node, so that focus, selection and what was scrolled to stay where they are.
"use strict";

const root = document.documentElement;
const live = document.getElementById("live");
const waiting = new Map(); // sections in which somebody is selecting text, and what they are to become

function sync(to, from) {
  for (const { name } of Array.from(to.attributes)) {
    if (!from.hasAttribute(name)) to.removeAttribute(name);
  }
  for (const { name, value } of from.attributes) {
    if (to.getAttribute(name) !== value) to.setAttribute(name, value);
  }
}

function patch(to, from) {
  const wanted = Array.from(from.childNodes);
  wanted.forEach((next, place) => {
    const now = to.childNodes[place];
    if (!now) {
      to.appendChild(document.importNode(next, true));
    } else if (now.nodeType !== next.nodeType || now.nodeName !== next.nodeName) {
      to.replaceChild(document.importNode(next, true), now);
    } else if (now.nodeType === Node.ELEMENT_NODE) {
      sync(now, next);
      if (now.nodeName !== "BUTTON") patch(now, next); // what stands on those is ours
    } else if (now.nodeValue !== next.nodeValue) {
      now.nodeValue = next.nodeValue;
    }
  });
  while (to.childNodes.length > wanted.length) to.lastChild.remove();
}

function isSelecting(section) {
  const selection = document.getSelection();
  return !selection.isCollapsed && selection.containsNode(section, true);
}

function update() {
  for (const [name, html] of waiting) {
    const section = document.getElementById(name);
    if (isSelecting(section)) continue;
    patch(section, new DOMParser().parseFromString(html, "text/html").body);
    waiting.delete(name);
  }
}

function say(text) {
  live.textContent = text;
  live.hidden = !text;
}

async function copy(button) {
  const text = button.dataset.copy;
  try {
    await navigator.clipboard.writeText(text);
  } catch { // not allowed here: select it, so that a key copies it
    document.getSelection().selectAllChildren(button.previousElementSibling);
    return;
  }
  button.textContent = "copied";
  setTimeout(() => { button.textContent = "copy"; }, 2000);
}

root.classList.add("scripted");
document.addEventListener("click", (event) => {
  const button = event.target.closest("button.copy");
  if (button) copy(button);
});
document.addEventListener("selectionchange", update);

function listen() {
  const events = new EventSource("/events/page");
  events.addEventListener("page", (event) => {
    say("");
    for (const [name, html] of Object.entries(JSON.parse(event.data))) waiting.set(name, html);
    update();
  });
  events.addEventListener("error", () => {
    say(events.readyState === EventSource.CLOSED
      ? "Not live: as many pages watch this node as it lets. Load the page again later."
      : "Not live: the node does not answer. What you see is as it was; it is asked again by itself.");
  });
  return events;
}

// A page that nobody sees asks for nothing: it costs the node nothing, and a browser has six connections for all of them.
function follow() {
  if (document.hidden) {
    events?.close();
    events = null;
  } else {
    events ??= listen();
  }
}

let events = null;
document.addEventListener("visibilitychange", follow);
follow();
