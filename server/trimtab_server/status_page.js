"use strict";
const byId = (id) => document.getElementById(id);

async function refresh() {
  if (document.hidden || !getSelection().isCollapsed) return;
  try {
    const answer = await fetch(location.href, { cache: "no-store", signal: AbortSignal.timeout(4000) });
    if (!answer.ok) throw new Error(answer.statusText);
    show(new DOMParser().parseFromString(await answer.text(), "text/html"));
    byId("stale").hidden = true;
  } catch {
    byId("stale").hidden = false;
  }
}

function show(page) {
  const box = byId("solves");
  const left = box.scrollLeft;
  const hadFocus = box === document.activeElement;
  document.title = page.title;
  byId("live").replaceWith(page.getElementById("live"));
  byId("solves").scrollLeft = left;
  if (hadFocus) byId("solves").focus({ preventScroll: true });
}

setInterval(refresh, 5000);
