// What becomes of the page while other pages, or nobody, answers: a conversation that another page has changed is shown anew,
// a server that is gone is told, and what gradio tells by itself is said in the chosen language.
(() => {
  const LOOK_MILLISECONDS = 1000; // between two looks at whether the conversation has changed
  const PATIENCE_MILLISECONDS = 30000; // until what has not come is asked for again
  const MOST_MISSED = 3; // looks without an answer, until that is told
  const labels = () => window.mayaLabels[document.documentElement.lang] ?? window.mayaLabels.en;
  const element = (id) => document.getElementById(id);
  let missed = 0;

  // A live region of our own, for what no event of the server can tell any more.
  function told() {
    let region = element("maya-lost");
    if (!region) {
      region = Object.assign(document.createElement("div"), { id: "maya-lost", role: "alert" });
      document.body.append(region);
    }
    return region;
  }

  function tellLost() {
    const text = missed >= MOST_MISSED ? labels().lost : "";
    if (!text && !element("maya-lost")) return;
    if (told().textContent !== text) told().textContent = text;
    told().hidden = !text;
  }

  // One look at the server's at a time: on a busy computer it takes its time to come.
  let isAsked = false;
  function press(id) {
    if (isAsked) return;
    isAsked = true;
    setTimeout(() => { isAsked = false; }, PATIENCE_MILLISECONDS);
    element(id)?.click();
  }
  const giveBack = window.mayaGiveBack; // which comes after each
  window.mayaGiveBack = (...given) => {
    isAsked = false;
    return giveBack(...given);
  };

  function looked() {
    const shown = element("maya-seen")?.querySelector("textarea, input")?.value;
    return shown ? JSON.parse(shown) : {};
  }

  // What the page shows is said with every event: a server that was started anew, or has forgotten the page, goes on with it.
  const fetched = window.fetch;
  window.fetch = async (to, how) => {
    if (!/\/queue\/join\b/.test(to.url ?? to)) return fetched(to, how);
    const { conversation } = looked(), headers = new Headers(how?.headers);
    if (conversation) headers.set("x-maya-shows", conversation);
    try {
      const answer = await fetched(to, { ...how, headers });
      window.mayaSent(how?.body, true);
      return answer;
    } catch (error) {
      missed ||= 1;
      window.mayaSent(how?.body, false);
      throw error;
    }
  };

  // The server gives more of an answer when what it gave has been painted: as fast as this browser draws.
  let drawn = "";
  function tellDrawn() {
    const seen = looked();
    if (!seen.drawn || seen.drawn === drawn) return;
    drawn = seen.drawn;
    requestAnimationFrame(() => setTimeout(() => fetch(`/drawn/${seen.drawn}`, { method: "POST" }).catch(() => {})));
  }

  async function look() {
    const seen = looked(), wasBusy = window.mayaIsBusy();
    if (document.hidden || (!seen.conversation && !missed)) return;
    try {
      const answer = await fetch(`/conversations/${seen.conversation ?? "none"}/revision`, { cache: "no-store" });
      if (missed) window.mayaIsBack();
      missed = 0;
      const revision = await answer.text();
      const isBehind = answer.ok && seen.conversation && revision !== seen.revision;
      const isStill = !wasBusy && !window.mayaIsBusy() && looked().revision === seen.revision; // and no word of a moment ago
      if (isBehind && isStill) press(revision.endsWith("+") ? "maya-follow" : "maya-renew"); // +: an answer is being made
    } catch {
      missed += 1;
    }
    tellLost();
  }
  const again = () => look().finally(() => setTimeout(again, LOOK_MILLISECONDS));
  setTimeout(again, LOOK_MILLISECONDS);

  // gradio's own notices.
  function reword(toast) {
    if (toast.role !== "alert") toast.role = "alert";
    const title = toast.querySelector(".toast-title")?.firstChild; // gradio's kind of notice; how many stands behind it
    if (title && title.textContent.trim() !== "Maya") title.textContent = "Maya ";
    for (const text of toast.querySelectorAll("[data-testid=toast-text]")) {
      if (text.querySelector("bdi")) continue; // ours
      const english = (text.mayaEnglish ??= text.textContent);
      const isLarge = /exceed|too large|maximum/i.test(english);
      const isLost = /connect|network|server|broken/i.test(english);
      const said = labels()[isLarge ? "too large" : isLost ? "lost" : "failed"];
      if (text.textContent !== said) text.textContent = said;
    }
  }

  // What is told on the page is told to those who cannot see it.
  const TOLD = "#maya-notice, #maya-figures, #maya-undo, #maya-unfinished, #maya-model-notice";
  const liven = (one) => { if (one.role !== "status") Object.assign(one, { role: "status", ariaLive: "polite" }); };

  new MutationObserver(() => {
    document.querySelectorAll(".toast-body").forEach(reword);
    document.querySelectorAll(TOLD).forEach(liven);
    tellDrawn();
  }).observe(document.documentElement, { childList: true, subtree: true });
})();
