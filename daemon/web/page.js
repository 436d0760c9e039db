"use strict";
// Brings what changes by itself up to date, as long as somebody looks. The page works without.
(() => {
  const EVERY = 5000;
  const PATIENCE = 15000;
  const live = document.getElementById("live");
  const gone = document.getElementById("gone");
  const news = document.getElementById("news");
  const searched = new URLSearchParams(location.search).has("q");
  // What the server sent last of each part: the document itself may have an opened <details>.
  const sent = new Map();
  let timer = 0;
  let lastSeen = new Date();
  let headline = live.dataset.headline;

  for (const part of live.children) sent.set(part.id, part.outerHTML);

  const inUse = (part) => {
    const selection = getSelection();
    return !selection.isCollapsed && selection.containsNode(part, true);
  };

  const replace = (old, fresh) => {
    const open = [...old.querySelectorAll("details[open][id]")].map((details) => details.id);
    const at = document.activeElement;
    const links = (part) => [...part.querySelectorAll("a, summary, [tabindex]")];
    const focused = links(old).indexOf(at);
    old.replaceWith(fresh);
    for (const id of open) document.getElementById(id)?.setAttribute("open", "");
    if (focused < 0) return;
    const again = links(fresh).find((link) => link.outerHTML === at.outerHTML);
    (again ?? links(fresh)[focused])?.focus({ preventScroll: true });
  };

  const show = (fresh) => {
    const parts = [...fresh.children];
    const same = parts.map((part) => part.id).join() === [...live.children].map((p) => p.id).join();
    for (const part of parts) {
      const html = part.outerHTML;
      if (!same || sent.get(part.id) !== html) {
        const old = document.getElementById(part.id);
        if (same && inUse(old)) continue;
        if (same) replace(old, part);
        sent.set(part.id, html);
      }
    }
    if (!same) live.replaceChildren(...parts);
    if (fresh.dataset.headline === headline) return;
    headline = fresh.dataset.headline;
    news.textContent = headline;
    if (!searched) document.title = `${headline} · callstatsd`;
  };

  const refresh = async () => {
    try {
      const answer = await fetch("live", { signal: AbortSignal.timeout(PATIENCE) });
      if (!answer.ok) throw new Error(answer.statusText);
      const parsed = new DOMParser().parseFromString(await answer.text(), "text/html");
      show(parsed.getElementById("live"));
      lastSeen = new Date();
      gone.hidden = true;
    } catch {
      const since = lastSeen.toLocaleTimeString();
      if (gone.hidden) gone.textContent = gone.dataset.text.replace("{time}", since);
      gone.hidden = false;
    }
    plan();
  };

  const plan = () => {
    clearTimeout(timer);
    if (!document.hidden) timer = setTimeout(refresh, EVERY);
  };

  document.addEventListener("visibilitychange", () => {
    clearTimeout(timer);
    if (!document.hidden) refresh();
  });
  plan();
})();
