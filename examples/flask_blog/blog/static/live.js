// Renews the parts of the page marked data-live, and touches nothing that did not change or is in use.
"use strict";

const source = document.querySelector("[data-live-from]").dataset.liveFrom;

async function renew() {
  if (document.hidden) return;
  const answer = await fetch(source);
  if (!answer.ok) return;
  const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
  for (const part of document.querySelectorAll("[data-live]")) {
    const next = fresh.querySelector(`[data-live="${CSS.escape(part.dataset.live)}"]`);
    if (next && next.innerHTML !== part.innerHTML && !part.contains(document.activeElement)) {
      part.replaceChildren(...next.childNodes);
    }
  }
}

(async () => {
  for (;;) {
    await new Promise((done) => setTimeout(done, 1000));
    try {
      await renew();
    } catch {
      // The server is being restarted: the next round will tell.
    }
  }
})();
